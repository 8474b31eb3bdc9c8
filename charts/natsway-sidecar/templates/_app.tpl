{{/* Annotations for your pod template: the configuration itself. */}}
{{- define "natsway-sidecar.podAnnotations" -}}
{{- $v := include "natsway-sidecar.values" . | fromJson -}}
{{- if $v.existingConfigMap -}}
natsway/config-map: {{ $v.existingConfigMap }}
{{- else -}}
natsway/config: |
  {{- toYaml $v.config | nindent 2 }}
{{- end }}
{{- end }}

{{/* Items for the env of your own containers. */}}
{{- define "natsway-sidecar.appEnv" -}}
{{- $v := include "natsway-sidecar.values" . | fromJson -}}
- name: NATSWAY_URL
  value: http://127.0.0.1:{{ include "natsway-sidecar.dataPort" $v }}
{{- end }}
