{{- define "natsway.env" -}}
- name: NATSWAY_CONFIG
  value: /etc/natsway/config/natsway.yaml
{{- with .Values.nats.auth }}
{{- if eq .mode "userpass" }}
- name: NATSWAY_NATS__AUTH__USER
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .userKey }}
- name: NATSWAY_NATS__AUTH__PASSWORD_FILE
  value: /etc/natsway/nats-auth/password
{{- else if ne .mode "none" }}
- name: NATSWAY_NATS__AUTH__{{ upper .mode }}_FILE
  value: /etc/natsway/nats-auth/{{ .mode }}
{{- end }}
{{- end }}
{{- if or .Values.nats.tls.existingSecret .Values.nats.certManager.enabled }}
- name: NATSWAY_NATS__TLS__REQUIRED
  value: "true"
- name: NATSWAY_NATS__TLS__CA_FILE
  value: /etc/natsway/nats-tls/ca.crt
{{- if or .Values.nats.tls.certKey .Values.nats.certManager.enabled }}
- name: NATSWAY_NATS__TLS__CERT_FILE
  value: /etc/natsway/nats-tls/tls.crt
- name: NATSWAY_NATS__TLS__KEY_FILE
  value: /etc/natsway/nats-tls/tls.key
{{- end }}
{{- end }}
{{- if .Values.ackTokens.existingSecret }}
- name: NATSWAY_ACK_TOKENS__KEY_FILE
  value: /etc/natsway/ack-tokens/keys
{{- end }}
{{- with .Values.tracing }}
{{- if .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headersSecret }}
      key: {{ .headersKey }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{- define "natsway.volumeMounts" -}}
- name: config
  mountPath: /etc/natsway/config
  readOnly: true
{{- if ne .Values.nats.auth.mode "none" }}
- name: nats-auth
  mountPath: /etc/natsway/nats-auth
  readOnly: true
{{- end }}
{{- if or .Values.nats.tls.existingSecret .Values.nats.certManager.enabled }}
- name: nats-tls
  mountPath: /etc/natsway/nats-tls
  readOnly: true
{{- end }}
{{- if .Values.ackTokens.existingSecret }}
- name: ack-tokens
  mountPath: /etc/natsway/ack-tokens
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{- define "natsway.volumes" -}}
- name: config
  configMap:
    name: {{ include "natsway.configMapName" . }}
{{- with .Values.nats.auth }}
{{- if ne .mode "none" }}
{{- $keys := dict "userpass" "password" "token" "token" "nkey" "nkey.seed" "creds" "nats.creds" }}
- name: nats-auth
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0400
    items:
      - key: {{ default (get $keys .mode) .key }}
        path: {{ eq .mode "userpass" | ternary "password" .mode }}
{{- end }}
{{- end }}
{{- if or .Values.nats.tls.existingSecret .Values.nats.certManager.enabled }}
{{- $client := or .Values.nats.tls.certKey .Values.nats.certManager.enabled }}
- name: nats-tls
  secret:
    secretName: {{ default (printf "%s-nats-client" (include "natsway.fullname" .)) .Values.nats.tls.existingSecret }}
    defaultMode: 0400
    items:
      - key: {{ .Values.nats.tls.caKey }}
        path: ca.crt
      {{- if $client }}
      - key: {{ default "tls.crt" .Values.nats.tls.certKey }}
        path: tls.crt
      - key: {{ default "tls.key" .Values.nats.tls.keyKey }}
        path: tls.key
      {{- end }}
{{- end }}
{{- with .Values.ackTokens }}
{{- if .existingSecret }}
- name: ack-tokens
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0400
    items:
      - key: {{ .key }}
        path: keys
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{/* One probe: path and enabled are ours, everything else is Kubernetes's own. */}}
{{- define "natsway.probe" -}}
httpGet:
  path: {{ .path }}
  port: admin
{{ toYaml (omit . "path" "enabled") }}
{{- end }}

{{- define "natsway.topologySpread" -}}
{{- if .Values.topologySpreadConstraints }}
{{- tpl (toYaml .Values.topologySpreadConstraints) . }}
{{- else if include "natsway.replicated" . }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "natsway.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "natsway.podSpec" -}}
serviceAccountName: {{ include "natsway.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ include "natsway.terminationGracePeriodSeconds" . }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraInitContainers }}
initContainers:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
containers:
  - name: natsway
    image: {{ include "natsway.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    {{- with .Values.extraArgs }}
    args:
      {{- tpl (toYaml .) $ | nindent 6 }}
    {{- end }}
    env:
      {{- include "natsway.env" . | nindent 6 }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- tpl (toYaml .) $ | nindent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: {{ include "natsway.dataPort" . }}
      - name: admin
        containerPort: {{ include "natsway.adminPort" . }}
    {{- range $kind, $probe := .Values.probes }}
    {{- if $probe.enabled }}
    {{ $kind }}Probe:
      {{- include "natsway.probe" $probe | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- with .Values.lifecycle }}
    lifecycle:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      {{- include "natsway.volumeMounts" . | nindent 6 }}
  {{- with .Values.extraContainers }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
volumes:
  {{- include "natsway.volumes" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- with include "natsway.topologySpread" . | trim }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
