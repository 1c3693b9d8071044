{{/* The components of this chart, and those that clients speak with. */}}
{{- define "vmcluster.components" -}}["vmselect", "vminsert", "vmstorage"]{{- end -}}
{{- define "vmcluster.fronts" -}}["vmselect", "vminsert"]{{- end -}}

{{/* Stops with what to change. Most faults are found by values.schema.json before. */}}
{{- define "vmcluster.checks" -}}
{{- if .Values.vmauth.enabled -}}
{{- fail "vmauth.enabled: this version has no vmauth. Set it to false, and put a balancer of your own in front: write requests go to vminsert, read requests to vmselect" -}}
{{- end -}}
{{- $ctx := dict "root" . "name" "vmselect" -}}
{{- include "vmcluster.context" $ctx -}}
{{- $select := $ctx.c -}}
{{- if and $select.enabled $select.persistentVolume.enabled (ne $select.mode "statefulSet") (not (has "ReadWriteMany" $select.persistentVolume.accessModes)) (or $select.horizontalPodAutoscaler.enabled (gt (int $select.replicaCount) 1)) -}}
{{- fail "vmselect.persistentVolume: several pods of a Deployment would share one volume. Set vmselect.mode to statefulSet, which gives each its own, or replicaCount to 1" -}}
{{- end -}}
{{- range $name := list "vmselect" "vminsert" -}}
{{- $c := index $.Values $name -}}
{{- if and $c.enabled (not $c.service.enabled) (or $c.ingress.enabled $c.route.enabled $c.serviceMonitor.enabled) -}}
{{- fail (printf "%s.service.enabled: ingress, route and serviceMonitor need the Service. Set it to true, or these to false" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "vmselect" "vminsert" "vmstorage" -}}
{{- $c := index $.Values $name -}}
{{- if and (not $c.extraArgs.httpListenAddr) (eq (len $c.http) 0) -}}
{{- fail (printf "%s.http: at least one address is needed, such as {name: http, value: \":8480\", primary: true}" $name) -}}
{{- end -}}
{{- if and $c.podDisruptionBudget.minAvailable $c.podDisruptionBudget.maxUnavailable -}}
{{- fail (printf "%s.podDisruptionBudget: minAvailable and maxUnavailable exclude each other; set one of them to 0" $name) -}}
{{- end -}}
{{- end -}}
{{- $storage := .Values.vmstorage -}}
{{- if and $storage.enabled $storage.vmbackupmanager.enabled (not $storage.vmbackupmanager.destination) -}}
{{- fail "vmstorage.vmbackupmanager.destination: say where backups go, such as s3://bucket/path, gs://bucket/path or fs:///path" -}}
{{- end -}}
{{- if and $storage.enabled $storage.persistentVolume.enabled $storage.persistentVolume.existingClaim (gt (int $storage.replicaCount) 1) -}}
{{- fail "vmstorage.persistentVolume.existingClaim: two storage nodes cannot have one volume. Set replicaCount to 1, or leave existingClaim empty" -}}
{{- end -}}
{{- end -}}
