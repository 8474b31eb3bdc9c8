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
