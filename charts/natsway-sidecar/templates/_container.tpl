{{/*
One item for the initContainers of your pod: a native sidecar, up before the containers after it and ended after your app.
Its startup does not wait for NATS and it has no readiness probe: while NATS is away natsway answers 503 by itself,
and your app neither fails to start nor is taken out of service.
*/}}
{{- define "natsway-sidecar.container" -}}
{{- $v := include "natsway-sidecar.values" . | fromJson -}}
- name: {{ $v.name }}
  image: {{ include "natsway-sidecar.image" $v }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  restartPolicy: Always
  env:
    {{- include "natsway-sidecar.env" $v | nindent 4 }}
  {{- if $v.admin.podIP }}
  ports:
    - name: natsway-admin
      containerPort: {{ $v.admin.port }}
  {{- end }}
  {{- range $kind, $probe := $v.probes }}
  {{- if $probe.enabled }}
  {{ $kind }}Probe:
    {{- if $v.admin.podIP }}
    httpGet:
      path: /livez
      port: natsway-admin
    {{- else }}
    exec:
      command: [natsway, health]
    {{- end }}
    {{- toYaml (omit $probe "enabled") | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $v.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: {{ $v.name }}-config
      mountPath: /etc/natsway/config
      readOnly: true
    {{- range $purpose := list "nats-auth" "nats-tls" "ack-tokens" }}
    {{- if include "natsway-sidecar.secretOf" (dict "values" $v "purpose" $purpose) }}
    - name: {{ $v.name }}-{{ $purpose }}
      mountPath: /etc/natsway/{{ $purpose }}
      readOnly: true
    {{- end }}
    {{- end }}
    {{- with $v.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "natsway-sidecar.env" -}}
{{- $ip := eq .admin.ipFamily "IPv6" | ternary "[$(NATSWAY_POD_IP)]" "$(NATSWAY_POD_IP)" -}}
- name: NATSWAY_CONFIG
  value: /etc/natsway/config/natsway.yaml
{{- if .admin.podIP }}
- name: NATSWAY_POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
# Stands above any file, so that no ConfigMap opens it to other pods.
- name: NATSWAY_LISTEN__DATA
  value: {{ dig "listen" "data" (list "127.0.0.1:4280" "[::1]:4280") .config | join "," | quote }}
- name: NATSWAY_LISTEN__ADMIN
  value: "{{ .admin.podIP | ternary $ip "127.0.0.1" }}:{{ .admin.port }}"
{{- if eq .nats.auth.mode "userpass" }}
- name: NATSWAY_NATS__AUTH__USER
  valueFrom:
    secretKeyRef:
      name: {{ .nats.auth.existingSecret }}
      key: {{ .nats.auth.userKey }}
- name: NATSWAY_NATS__AUTH__PASSWORD_FILE
  value: /etc/natsway/nats-auth/password
{{- else if ne .nats.auth.mode "none" }}
- name: NATSWAY_NATS__AUTH__{{ upper .nats.auth.mode }}_FILE
  value: /etc/natsway/nats-auth/{{ .nats.auth.mode }}
{{- end }}
{{- if .nats.tls.existingSecret }}
- name: NATSWAY_NATS__TLS__REQUIRED
  value: "true"
- name: NATSWAY_NATS__TLS__CA_FILE
  value: /etc/natsway/nats-tls/ca.crt
{{- if .nats.tls.certKey }}
- name: NATSWAY_NATS__TLS__CERT_FILE
  value: /etc/natsway/nats-tls/tls.crt
- name: NATSWAY_NATS__TLS__KEY_FILE
  value: /etc/natsway/nats-tls/tls.key
{{- end }}
{{- end }}
{{- if .ackTokens.existingSecret }}
- name: NATSWAY_ACK_TOKENS__KEY_FILE
  value: /etc/natsway/ack-tokens/keys
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
