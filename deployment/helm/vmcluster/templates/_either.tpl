{{/* A component that is a Deployment or a StatefulSet, by its mode, with what it needs besides. */}}
{{- define "vmcluster.either" -}}
{{- $ctx := . -}}
{{- $c := .c -}}
{{- $name := include "vmcluster.component" . -}}
{{- $stateful := eq $c.mode "statefulSet" -}}
{{- $autoscaled := (default dict $c.horizontalPodAutoscaler).enabled -}}
apiVersion: apps/v1
kind: {{ ternary "StatefulSet" "Deployment" $stateful }}
metadata:
  name: {{ $name | quote }}
  {{- include "vmcluster.metadata" (merge (dict "labels" $c.extraLabels "annotations" $c.annotations) $ctx) | nindent 2 }}
spec:
  {{- if not $autoscaled }}
  replicas: {{ $c.replicaCount }}
  {{- end }}
  {{- if $stateful }}
  serviceName: {{ $name }}-headless
  {{- toYaml $c.statefulSet.spec | nindent 2 }}
  {{- else }}
  {{- with $c.deployment.spec.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "vmcluster.selectorOf" $ctx | nindent 4 }}
  template:
    {{- include "vmcluster.pod" $ctx | nindent 4 }}
  {{- if $stateful }}
  {{- with include "vmcluster.claim" $ctx }}
  {{- . | nindent 2 }}
  {{- end }}
---
{{- $headless := merge (dict "name" (printf "%s-headless" .name)) $ctx }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-headless
  {{- include "vmcluster.metadata" $headless | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "vmcluster.selector" $ctx | nindent 4 }}
  ports:
    {{- range include "vmcluster.listeners" $ctx | fromJsonArray }}
    - name: {{ .name | quote }}
      port: {{ .port }}
      targetPort: {{ .name | quote }}
    {{- end }}
  {{- else if and $c.persistentVolume.enabled (not $c.persistentVolume.existingClaim) }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name | quote }}
  {{- include "vmcluster.metadata" (merge (dict "labels" $c.persistentVolume.extraLabels "annotations" $c.persistentVolume.annotations) $ctx) | nindent 2 }}
spec:
  {{- include "vmcluster.claimSpec" $c.persistentVolume | nindent 2 }}
  {{- end }}
{{- end -}}
