{{/* What the two containers of vmbackupmanager have in common. */}}
{{- define "vmcluster.managerCommon" -}}
{{- $m := .c.vmbackupmanager -}}
image: {{ include "vmcluster.image" (dict "root" .root "image" $m.image) | quote }}
imagePullPolicy: {{ $m.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- with $m.env }}
  {{- tpl (toYaml .) $.root | nindent 2 }}
  {{- end }}
{{- with $m.envFrom }}
envFrom:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- with $m.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "vmcluster.securityContext" (dict "root" .root "context" .c.securityContext) }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- $mounts := include "vmcluster.dataMount" . | fromJsonArray }}
  {{- range $m.extraSecretMounts }}{{ $mounts = append $mounts (merge (dict "readOnly" true) (omit . "secretName")) }}{{ end }}
  {{- tpl (concat $mounts $m.extraVolumeMounts | toYaml) .root | nindent 2 }}
{{- end -}}

{{- define "vmcluster.managerFlags" -}}
{{- dict "dst" (printf "%s/$(POD_NAME)" (trimSuffix "/" .c.vmbackupmanager.destination)) "storageDataPath" .path | toJson -}}
{{- end -}}

{{- define "vmcluster.manager" -}}
{{- $m := .c.vmbackupmanager -}}
{{- $flags := include "vmcluster.managerFlags" . | fromJson -}}
{{- $http := include "vmcluster.primary" . | fromJson -}}
{{- $prefix := index .c.extraArgs "http.pathPrefix" -}}
{{- $_ := set $flags "snapshot.createURL" (printf "%s://localhost:%v%s" (ternary "https" "http" $http.tls) $http.port (include "vmcluster.path" (dict "prefix" $prefix "path" "/snapshot/create"))) -}}
{{- range $kind := list "Hourly" "Daily" "Weekly" "Monthly" -}}
{{- $_ := set $flags (printf "keepLast%s" $kind) (index $m.retention (printf "keepLast%s" $kind)) -}}
{{- if index $m (printf "disable%s" $kind) }}{{ $_ := set $flags (printf "disable%s" $kind) true }}{{ end -}}
{{- end -}}
- name: vmbackupmanager
  args:
    {{- include "vmcluster.args" (list $flags $m.extraArgs) | nindent 4 }}
  ports:
    - name: manager-http
      containerPort: 8300
      protocol: TCP
  {{- with include "vmcluster.probes" (dict "c" $m "http" (dict "name" "manager-http" "tls" false)) }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- include "vmcluster.managerCommon" . | nindent 2 }}
{{- end -}}

{{/* Loads the backup which is marked for restore, if one is, before vmstorage starts. */}}
{{- define "vmcluster.restore" -}}
- name: vmbackupmanager-restore
  args:
    - restore
    {{- include "vmcluster.args" (list (include "vmcluster.managerFlags" . | fromJson) .c.vmbackupmanager.extraArgs) | nindent 4 }}
  {{- include "vmcluster.managerCommon" . | nindent 2 }}
{{- end -}}
