{{/* The components of this chart, and those that clients speak with. All other templates are links to those of the chart vmcluster. */}}
{{- define "vmcluster.components" -}}["server"]{{- end -}}
{{- define "vmcluster.fronts" -}}["server"]{{- end -}}

{{/* Stops with what to change. Most faults are found by values.schema.json before. */}}
{{- define "vmcluster.checks" -}}
{{- $ctx := dict "root" . "name" "server" -}}
{{- include "vmcluster.context" $ctx -}}
{{- $c := $ctx.c -}}
{{- if $c.scrape.enabled -}}
{{- fail "server.scrape.enabled: victoria-metrics does not scrape. Set it to false, and let Prometheus write to it with remote_write" -}}
{{- end -}}
{{- if and $c.persistentVolume.enabled (gt (int $c.replicaCount) 1) (or $c.persistentVolume.existingClaim (ne $c.mode "statefulSet")) -}}
{{- fail "server.replicaCount: several pods would share one volume. Set server.mode to statefulSet and leave existingClaim empty, or set replicaCount to 1" -}}
{{- end -}}
{{- if and (not $c.service.enabled) (or $c.ingress.enabled $c.route.enabled $c.serviceMonitor.enabled) -}}
{{- fail "server.service.enabled: ingress, route and serviceMonitor need the Service. Set it to true, or these to false" -}}
{{- end -}}
{{- if and (not $c.extraArgs.httpListenAddr) (eq (len $c.http) 0) -}}
{{- fail "server.http: at least one address is needed, such as {name: http, value: \":8428\", primary: true}" -}}
{{- end -}}
{{- if and $c.podDisruptionBudget.minAvailable $c.podDisruptionBudget.maxUnavailable -}}
{{- fail "server.podDisruptionBudget: minAvailable and maxUnavailable exclude each other; set one of them to 0" -}}
{{- end -}}
{{- if and $c.vmbackupmanager.enabled (not $c.vmbackupmanager.destination) -}}
{{- fail "server.vmbackupmanager.destination: say where backups go, such as s3://bucket/path, gs://bucket/path or fs:///path" -}}
{{- end -}}
{{- end -}}
