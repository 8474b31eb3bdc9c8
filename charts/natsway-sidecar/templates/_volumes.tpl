{{/* Items for the volumes of your pod. */}}
{{- define "natsway-sidecar.volumes" -}}
{{- $v := include "natsway-sidecar.values" . | fromJson -}}
- name: {{ $v.name }}-config
  {{- if $v.existingConfigMap }}
  configMap:
    name: {{ $v.existingConfigMap }}
  {{- else }}
  downwardAPI:
    items:
      - path: natsway.yaml
        fieldRef:
          fieldPath: metadata.annotations['natsway/config']
  {{- end }}
{{- range $purpose := list "nats-auth" "nats-tls" "ack-tokens" }}
{{- $secret := include "natsway-sidecar.secretOf" (dict "values" $v "purpose" $purpose) }}
{{- if $secret }}
- name: {{ $v.name }}-{{ $purpose }}
  secret:
    secretName: {{ $secret }}
    # Mounted into natsway alone; fsGroup, which would allow less, belongs to your pod.
    defaultMode: 0444
    items:
      {{- include (printf "natsway-sidecar.items.%s" $purpose) $v | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of the Secret for a purpose, empty for none. */}}
{{- define "natsway-sidecar.secretOf" -}}
{{- get (dict "nats-auth" .values.nats.auth.existingSecret "nats-tls" .values.nats.tls.existingSecret "ack-tokens" .values.ackTokens.existingSecret) .purpose }}
{{- end }}

{{- define "natsway-sidecar.items.nats-auth" -}}
{{- with .nats.auth -}}
- key: {{ default (get (dict "userpass" "password" "token" "token" "nkey" "nkey.seed" "creds" "nats.creds") .mode) .key }}
  path: {{ eq .mode "userpass" | ternary "password" .mode }}
{{- end }}
{{- end }}

{{- define "natsway-sidecar.items.nats-tls" -}}
{{- with .nats.tls -}}
- key: {{ .caKey }}
  path: ca.crt
{{- if .certKey }}
- key: {{ .certKey }}
  path: tls.crt
- key: {{ .keyKey }}
  path: tls.key
{{- end }}
{{- end }}
{{- end }}

{{- define "natsway-sidecar.items.ack-tokens" -}}
- key: {{ .ackTokens.key }}
  path: keys
{{- end }}
