{{/* The sidecar's values, as JSON: your chart keeps them under the dependency's name or its alias. */}}
{{- define "natsway-sidecar.values" -}}
{{- $values := get .Values "natsway-sidecar" | default (get .Values "natsway") }}
{{- if not (hasKey ($values | default dict) "securityContext") }}
{{- fail "natsway-sidecar: add the chart to your dependencies, under its own name or with alias: natsway" }}
{{- end }}
{{- range $address := dig "listen" "data" list $values.config }}
{{- if not (regexMatch "^(127\\.|localhost:|\\[::1\\]:|unix:)" $address) }}
{{- fail (printf "natsway-sidecar: config.listen.data has %s, but a sidecar serves its own pod only: use 127.0.0.1, [::1] or unix:" $address) }}
{{- end }}
{{- end }}
{{- range $values.extraEnv }}
{{- if hasPrefix "NATSWAY_LISTEN__" (upper .name) }}
{{- fail (printf "natsway-sidecar: extraEnv has %s: set config.listen.data, admin.port or admin.podIP instead" .name) }}
{{- end }}
{{- end }}
{{- include "natsway-sidecar.noSecrets" $values.config }}
{{- if dig "listen" "admin" "" $values.config }}
{{- fail "natsway-sidecar: set admin.port and admin.podIP instead of config.listen.admin" }}
{{- end }}
{{- with $values.nats.auth }}
{{- if ne (eq .mode "none") (empty .existingSecret) }}
{{- fail "natsway-sidecar: nats.auth.mode and nats.auth.existingSecret belong together" }}
{{- end }}
{{- end }}
{{- if ne (empty $values.nats.tls.certKey) (empty $values.nats.tls.keyKey) }}
{{- fail "natsway-sidecar: nats.tls.certKey and nats.tls.keyKey belong together" }}
{{- end }}
{{- toJson $values }}
{{- end }}

{{/* config is shown to whoever may read ConfigMaps and pods, so no secret may be in it. */}}
{{- define "natsway-sidecar.noSecrets" -}}
{{- $auth := dig "nats" "auth" dict . }}
{{- range list "password" "token" "nkey" "creds" }}
{{- if get $auth . }}
{{- fail (printf "natsway-sidecar: config.nats.auth.%s would stand in an annotation of the pod: put it into a Secret and name that in nats.auth" .) }}
{{- end }}
{{- end }}
{{- range dig "nats" "servers" list . }}
{{- if contains "@" (toString .) }}
{{- fail "natsway-sidecar: config.nats.servers has a user or password, which would stand in an annotation of the pod: put them into a Secret and name that in nats.auth" }}
{{- end }}
{{- end }}
{{- if dig "ack_tokens" "keys" "" . }}
{{- fail "natsway-sidecar: config.ack_tokens.keys would stand in an annotation of the pod: put them into a Secret and name that in ackTokens" }}
{{- end }}
{{- end }}

{{/* The port of the first TCP data listener, or natsway's default. */}}
{{- define "natsway-sidecar.dataPort" -}}
{{- $port := "" }}
{{- range dig "listen" "data" list .config }}
{{- if and (not $port) (not (hasPrefix "unix:" .)) }}{{ $port = regexFind "[0-9]+$" . }}{{ end }}
{{- end }}
{{- default "4280" $port }}
{{- end }}

{{- define "natsway-sidecar.image" -}}
{{- if .image.registry }}{{ .image.registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag }}{{ end }}
{{- end }}
