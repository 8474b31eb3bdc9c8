{{- define "natsway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cut at 55, so that suffixes such as -admin still fit into 63 characters. */}}
{{- define "natsway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- $name := include "natsway.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "natsway.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "natsway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "natsway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the test pod, which must not look like a natsway to a selector. */}}
{{- define "natsway.testLabels" -}}
app.kubernetes.io/name: {{ include "natsway.name" . | trunc 58 }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "natsway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "natsway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata every object begins with. Call with a dict: root, and optionally suffix, labels, annotations. */}}
{{- define "natsway.metadata" -}}
name: {{ include "natsway.fullname" .root }}{{ .suffix }}
namespace: {{ include "natsway.namespace" .root }}
labels:
  {{- include "natsway.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "natsway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "natsway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "natsway.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "natsway.configMapName" -}}
{{- default (include "natsway.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* The port of the first TCP data listener. */}}
{{- define "natsway.dataPort" -}}
{{- $tcp := "" }}
{{- range .Values.config.listen.data }}
{{- if and (not $tcp) (not (hasPrefix "unix:" (toString .))) }}{{ $tcp = toString . }}{{ end }}
{{- end }}
{{- include "natsway.reachablePort" (dict "address" $tcp "key" "config.listen.data") }}
{{- end }}

{{- define "natsway.adminPort" -}}
{{- include "natsway.reachablePort" (dict "address" .Values.config.listen.admin "key" "config.listen.admin") }}
{{- end }}

{{/* Services and probes come to the pod's address; a loopback listener would answer none of them. */}}
{{- define "natsway.reachablePort" -}}
{{- $address := toString .address }}
{{- if or (hasPrefix "127." $address) (hasPrefix "localhost" $address) (hasPrefix "[::1]" $address) }}
{{- fail (printf "%s is %s: a gateway is reached from other pods, use 0.0.0.0 or [::] with a port" .key $address) }}
{{- end }}
{{- $port := regexFind ":[0-9]+$" $address | trimPrefix ":" }}
{{- if or (not $port) (eq $port "0") }}
{{- fail (printf "%s needs an address with a fixed port, such as 0.0.0.0:4280" .key) }}
{{- end }}
{{- $port }}
{{- end }}

{{/* Whole seconds of a duration such as 250ms, 2s, 1m30s or 1h, rounded up. */}}
{{- define "natsway.seconds" -}}
{{- $ms := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" (toString .) -1 }}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $ms = add $ms (mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) }}
{{- end }}
{{- div (add $ms 999) 1000 }}
{{- end }}

{{/* How long the pod may take to end: natsway's own drain, and 5 s so that it is never cut short. */}}
{{- define "natsway.terminationGracePeriodSeconds" -}}
{{- $shutdown := .Values.config.shutdown | default dict }}
{{- $drain := add (include "natsway.seconds" (get $shutdown "ready_delay" | default "0s")) (include "natsway.seconds" (get $shutdown "grace" | default "25s")) }}
{{- $wanted := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $wanted }}
{{- add $drain 5 }}
{{- else if le (int $wanted) (int $drain) }}
{{- fail (printf "terminationGracePeriodSeconds (%d) must exceed config.shutdown.ready_delay + grace (%d s), or requests in flight are cut off" (int $wanted) (int $drain)) }}
{{- else }}
{{- int $wanted }}
{{- end }}
{{- end }}

{{/* Not empty when more than one replica is possible. */}}
{{- define "natsway.replicated" -}}
{{- if .Values.keda.enabled }}
{{- if gt (int .Values.keda.maxReplicas) 1 }}true{{ end }}
{{- else if .Values.autoscaling.enabled }}
{{- if gt (int .Values.autoscaling.maxReplicas) 1 }}true{{ end }}
{{- else if gt (int .Values.replicaCount) 1 }}true{{ end }}
{{- end }}

{{/* Not empty when the configuration serves acks, which it does unless JetStream is switched off. */}}
{{- define "natsway.servesAcks" -}}
{{- $jetstream := dig "api" "jetstream" true .Values.config }}
{{- if .Values.existingConfigMap }}true
{{- else if kindIs "map" $jetstream }}
{{- if ne (toString (get $jetstream "enabled")) "false" }}true{{ end }}
{{- else if $jetstream }}true{{ end }}
{{- end }}

{{/* config is shown to whoever may read ConfigMaps and pods, so no secret may be in it. */}}
{{- define "natsway.noSecrets" -}}
{{- $auth := dig "nats" "auth" dict . }}
{{- range list "password" "token" "nkey" "creds" }}
{{- if get $auth . }}
{{- fail (printf "config.nats.auth.%s would stand in a ConfigMap: put it into a Secret and name that in nats.auth" .) }}
{{- end }}
{{- end }}
{{- range dig "nats" "servers" list . }}
{{- if contains "@" (toString .) }}
{{- fail "config.nats.servers has a user or password, which would stand in a ConfigMap: put them into a Secret and name that in nats.auth" }}
{{- end }}
{{- end }}
{{- if dig "ack_tokens" "keys" "" . }}
{{- fail "config.ack_tokens.keys would stand in a ConfigMap: put them into a Secret and name that in ackTokens" }}
{{- end }}
{{- end }}

{{/* What can be wrong although each value is well formed. */}}
{{- define "natsway.validate" -}}
{{- include "natsway.noSecrets" .Values.config }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled exclude each other: two autoscalers would fight over the replicas" }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.triggers) }}
{{- fail "keda.enabled needs keda.triggers" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled exclude each other: every sample would be counted twice" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.adminService.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs adminService.enabled" }}
{{- end }}
{{- if and (ne .Values.nats.auth.mode "none") (not .Values.nats.auth.existingSecret) }}
{{- fail (printf "nats.auth.mode %s needs nats.auth.existingSecret" .Values.nats.auth.mode) }}
{{- end }}
{{- if and .Values.nats.auth.existingSecret (eq .Values.nats.auth.mode "none") }}
{{- fail "nats.auth.existingSecret needs nats.auth.mode" }}
{{- end }}
{{- if ne (empty .Values.nats.tls.certKey) (empty .Values.nats.tls.keyKey) }}
{{- fail "nats.tls.certKey and nats.tls.keyKey belong together" }}
{{- end }}
{{- if and .Values.nats.certManager.enabled .Values.nats.tls.existingSecret }}
{{- fail "nats.certManager.enabled and nats.tls.existingSecret exclude each other" }}
{{- end }}
{{- if and .Values.nats.certManager.enabled (not .Values.nats.certManager.issuerRef) }}
{{- fail "nats.certManager.enabled needs nats.certManager.issuerRef" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled needs ingress.hosts" }}
{{- end }}
{{- $keyFile := dig "ack_tokens" "key_file" "" .Values.config }}
{{- if and (include "natsway.replicated" .) (include "natsway.servesAcks" .) (not .Values.ackTokens.existingSecret) (not $keyFile) }}
{{- fail "more than one replica is possible and acks are served: set ackTokens.existingSecret, or an ack sent to another replica than the one that fetched is refused; or switch JetStream off with config.api.jetstream.enabled: false" }}
{{- end }}
{{- end }}
