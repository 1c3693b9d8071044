{{/* A security context without "enabled". OpenShift chooses users and groups itself. */}}
{{- define "vmcluster.securityContext" -}}
{{- $adapt := .root.Values.global.compatibility.openshift.adaptSecurityContext -}}
{{- $context := omit .context "enabled" -}}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") (.root.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" -}}
{{- end -}}
{{- if .context.enabled }}{{ toYaml $context }}{{ end -}}
{{- end -}}

{{/* A path below -http.pathPrefix. */}}
{{- define "vmcluster.path" -}}
{{- with trimAll "/" (toString (.prefix | default "")) }}/{{ . }}{{ end }}{{ .path -}}
{{- end -}}

{{/* A probe. httpGet and tcpSocket may be empty: path, port and scheme are those of the component. Values that former charts have printed
     name templates there which mean the same. */}}
{{- define "vmcluster.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- range $target := list $probe.httpGet $probe.tcpSocket -}}
{{- range $key, $value := $target }}{{ if contains "{{" (toString $value) }}{{ $_ := unset $target $key }}{{ end }}{{ end -}}
{{- end -}}
{{- if hasKey $probe "httpGet" -}}
{{- $default := dict "path" (include "vmcluster.path" (dict "prefix" .prefix "path" "/health")) "port" .http.name -}}
{{- if .http.tls }}{{ $_ := set $default "scheme" "HTTPS" }}{{ end -}}
{{- $_ := set $probe "httpGet" (merge (default dict $probe.httpGet) $default) -}}
{{- else if hasKey $probe "tcpSocket" -}}
{{- $_ := set $probe "tcpSocket" (merge (default dict $probe.tcpSocket) (dict "port" .http.name)) -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- define "vmcluster.probes" -}}
{{- $probes := dict -}}
{{- range $kind, $probe := .c.probe -}}
{{- if $probe }}{{ $_ := set $probes (printf "%sProbe" $kind) (include "vmcluster.probe" (dict "probe" $probe "http" $.http "prefix" $.prefix) | fromYaml) }}{{ end -}}
{{- end -}}
{{- if $probes }}{{ toYaml $probes }}{{ end -}}
{{- end -}}

{{/* What all pods have: .flags (a map), .mounts and .volumes (lists), .sidecar and .restore (names of templates of further containers). */}}
{{- define "vmcluster.pod" -}}
{{- $http := include "vmcluster.primary" . | fromJson -}}
{{- $c := .c -}}
metadata:
  labels:
    {{- $own := include "vmcluster.selector" . | fromYaml }}
    {{- merge $own (dict "app" ($c.name | default .name)) $c.podLabels .root.Values.global.extraLabels | toYaml | nindent 4 }}
  {{- with $c.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "vmcluster.serviceAccount" .root | quote }}
  automountServiceAccountToken: {{ .root.Values.serviceAccount.automountToken }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $c.terminationGracePeriodSeconds }}
  {{- with include "vmcluster.securityContext" (dict "root" .root "context" $c.podSecurityContext) }}
  securityContext:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.global.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ if kindIs "string" . }}{{ quote . }}{{ else }}{{ quote .name }}{{ end }}
    {{- end }}
  {{- end }}
  {{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "nodeSelector" "tolerations" "affinity" }}
  {{- with index $c $key }}
  {{- dict $key . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $c.topologySpreadConstraints | default (list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway")) }}
    - {{ merge (deepCopy .) (dict "labelSelector" (include "vmcluster.selectorOf" $ | fromYaml)) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- if or $c.initContainers .restore }}
  initContainers:
    {{- with $c.initContainers }}
    {{- tpl (toYaml .) $.root | nindent 4 }}
    {{- end }}
    {{- with .restore }}
    {{- include . $ | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .name | quote }}
      image: {{ include "vmcluster.image" (dict "root" .root "image" $c.image) | quote }}
      imagePullPolicy: {{ $c.image.pullPolicy }}
      {{- with $c.command }}
      command:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $c.containerWorkingDir }}
      workingDir: {{ . }}
      {{- end }}
      args:
        {{- include "vmcluster.args" (list (include "vmcluster.httpFlags" . | fromJson) .flags $c.extraArgs) | nindent 8 }}
      ports:
        {{- range include "vmcluster.ports" . | fromJsonArray }}
        {{- if ne .name "manager-http" }}
        - name: {{ .name | quote }}
          containerPort: {{ .port }}
          protocol: {{ .protocol | default "TCP" }}
        {{- end }}
        {{- end }}
      {{- with $c.env }}
      env:
        {{- tpl (toYaml .) $.root | nindent 8 }}
      {{- end }}
      {{- with $c.envFrom }}
      envFrom:
        {{- tpl (toYaml .) $.root | nindent 8 }}
      {{- end }}
      {{- with include "vmcluster.probes" (dict "c" $c "http" $http "prefix" (index $c.extraArgs "http.pathPrefix")) }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $c.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $c.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with include "vmcluster.securityContext" (dict "root" .root "context" $c.securityContext) }}
      securityContext:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with include "vmcluster.mounts" . }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
    {{- with .sidecar }}
    {{- include . $ | nindent 4 }}
    {{- end }}
    {{- with $c.extraContainers }}
    {{- tpl (toYaml .) $.root | nindent 4 }}
    {{- end }}
  {{- with include "vmcluster.volumes" . }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "vmcluster.mounts" -}}
{{- $mounts := .mounts -}}
{{- range .c.extraHostPathMounts }}{{ $mounts = append $mounts (omit . "hostPath") }}{{ end -}}
{{- range .c.extraSecretMounts }}{{ $mounts = append $mounts (merge (dict "readOnly" true) (omit . "secretName")) }}{{ end -}}
{{- $mounts = concat $mounts (default list .c.extraVolumeMounts) -}}
{{- if $mounts }}{{ tpl (toYaml $mounts) .root }}{{ end -}}
{{- end -}}

{{- define "vmcluster.volumes" -}}
{{- $volumes := .volumes -}}
{{- range .c.extraHostPathMounts }}{{ $volumes = append $volumes (dict "name" .name "hostPath" (dict "path" .hostPath)) }}{{ end -}}
{{- $secrets := dict -}}
{{- range concat (default list .c.extraSecretMounts) (default list (default dict .c.vmbackupmanager).extraSecretMounts) }}{{ $_ := set $secrets .name (.secretName | default .name) }}{{ end -}}
{{- range $name, $secret := $secrets }}{{ $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $secret)) }}{{ end -}}
{{- $volumes = concat $volumes (default list .c.extraVolumes) -}}
{{- if $volumes }}{{ tpl (toYaml $volumes) .root }}{{ end -}}
{{- end -}}

{{/* The volume of a component, unless it is a claim of a StatefulSet's template, as a JSON list. */}}
{{- define "vmcluster.dataVolume" -}}
{{- $p := .c.persistentVolume -}}
{{- $name := include "vmcluster.volumeName" . -}}
{{- if not $p.enabled -}}
{{- list (dict "name" $name "emptyDir" .c.emptyDir) | toJson -}}
{{- else if $p.existingClaim -}}
{{- list (dict "name" $name "persistentVolumeClaim" (dict "claimName" $p.existingClaim)) | toJson -}}
{{- else if .claim -}}
{{- list (dict "name" $name "persistentVolumeClaim" (dict "claimName" .claim)) | toJson -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{- define "vmcluster.volumeName" -}}
{{- .c.persistentVolume.name | default (printf "%s-volume" .name) -}}
{{- end -}}

{{- define "vmcluster.dataMount" -}}
{{- $mount := dict "name" (include "vmcluster.volumeName" .) "mountPath" .path -}}
{{- with .c.persistentVolume.subPath }}{{ $_ := set $mount "subPath" . }}{{ end -}}
{{- list $mount | toJson -}}
{{- end -}}

{{/* The claim template of a StatefulSet. What is in it cannot be changed later, so labels of the chart's version are not. */}}
{{- define "vmcluster.claim" -}}
{{- $p := .c.persistentVolume -}}
{{- if and $p.enabled (not $p.existingClaim) -}}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: {{ include "vmcluster.volumeName" . | quote }}
      {{- with $p.annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $p.extraLabels }}
      labels:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "vmcluster.claimSpec" $p | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "vmcluster.claimSpec" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
resources:
  requests:
    storage: {{ .size }}
{{- with .storageClassName }}
storageClassName: {{ ternary "" . (eq . "-") | quote }}
{{- end }}
{{- with .volumeAttributesClassName }}
volumeAttributesClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Adds the flags of relabelling to .flags, and its volume and mount to those of .ctx. */}}
{{- define "vmcluster.relabel" -}}
{{- $r := .ctx.c.relabel -}}
{{- if $r.enabled -}}
{{- $_ := set .flags "relabelConfig" "/etc/vmcluster/relabel/relabel.yml" -}}
{{- $_ := set .flags "relabelConfigCheckInterval" "30s" -}}
{{- $_ := set .ctx "mounts" (append .ctx.mounts (dict "name" "relabel" "mountPath" "/etc/vmcluster/relabel" "readOnly" true)) -}}
{{- $map := $r.configMap | default (printf "%s-relabel" (include "vmcluster.component" .ctx)) -}}
{{- $_ := set .ctx "volumes" (append .ctx.volumes (dict "name" "relabel" "configMap" (dict "name" $map))) -}}
{{- end -}}
{{- end -}}

{{- define "vmcluster.relabelMap" -}}
{{- if and .c.relabel.enabled (not .c.relabel.configMap) }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "vmcluster.component" . }}-relabel
  {{- include "vmcluster.metadata" . | nindent 2 }}
data:
  relabel.yml: |
    {{- toYaml .c.relabel.config | nindent 4 }}
{{- end }}
{{- end -}}
