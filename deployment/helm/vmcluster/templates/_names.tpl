{{/* The name of the chart, as in labels. */}}
{{- define "vmcluster.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What the names of all objects begin with. Host names are made of it, so it has no dots and does not begin with a digit. */}}
{{- define "vmcluster.fullname" -}}
{{- $name := include "vmcluster.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $full = $full | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "vm-%s" $full }}{{ end -}}
{{- $full | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of a component's objects. Names of StatefulSets become labels with a hash behind them, hence 52. */}}
{{- define "vmcluster.component" -}}
{{- .c.fullnameOverride | default (printf "%s-%s" (include "vmcluster.fullname" .root) .name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* What a component is rendered with: the root, its name, its values. Keys of older charts are read as the ones that replaced them. */}}
{{- define "vmcluster.context" -}}
{{- $c := index .root.Values .name -}}
{{- if $c.mode -}}
{{- if hasKey $c.statefulSet "enabled" }}{{ $_ := set $c "mode" (ternary "statefulSet" "deployment" $c.statefulSet.enabled) }}{{ end -}}
{{- if $c.statefulSet.podManagementPolicy }}{{ $_ := set $c.statefulSet "spec" (dict "podManagementPolicy" $c.statefulSet.podManagementPolicy) }}{{ end -}}
{{- if $c.strategy }}{{ $_ := set $c.deployment.spec "strategy" $c.strategy }}{{ end -}}
{{- end -}}
{{- with $c.persistentVolume -}}
{{- if .storageClass }}{{ $_ := set . "storageClassName" .storageClass }}{{ end -}}
{{- if .labels }}{{ $_ := set . "extraLabels" .labels }}{{ end -}}
{{- end -}}
{{- if (default dict $c.ports).name }}{{ range $c.http }}{{ if .primary }}{{ $_ := set . "name" $c.ports.name }}{{ end }}{{ end }}{{ end -}}
{{- $_ := set . "c" $c -}}
{{- end -}}

{{/* Labels that never change, for selectors. */}}
{{- define "vmcluster.selector" -}}
app.kubernetes.io/name: {{ include "vmcluster.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 | quote }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end -}}

{{/* The selector of a component by its name. */}}
{{- define "vmcluster.selectorOf" -}}
matchLabels:
  {{- include "vmcluster.selector" . | nindent 2 }}
{{- end -}}

{{/* Labels and annotations of an object: those of "labels" and "annotations", those of all objects, and the chart's own, which win. */}}
{{- define "vmcluster.metadata" -}}
{{- $own := include "vmcluster.selector" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_")) -}}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- merge $own (default dict .labels) .root.Values.global.extraLabels | toYaml | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.global.extraAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* registry/repository:tag of .image. */}}
{{- define "vmcluster.image" -}}
{{- $common := (default dict .root.Values.common).image | default dict -}}
{{- $registry := .image.registry | default .root.Values.global.image.registry -}}
{{- $tag := .image.tag | default $common.tag | default .root.Values.global.image.vm.tag -}}
{{- if not $tag -}}
{{- $tag = .root.Chart.AppVersion -}}
{{- if and .image.variant (ne .image.variant "cluster") }}{{ $tag = printf "%s-%s" $tag .image.variant }}{{ end -}}
{{- end -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}:{{ $tag -}}
{{- end -}}

{{- define "vmcluster.serviceAccount" -}}
{{- with .Values.serviceAccount -}}
{{- .name | default (ternary (include "vmcluster.fullname" $) "default" .create) -}}
{{- end -}}
{{- end -}}

{{/* service.namespace.svc.domain of a service. */}}
{{- define "vmcluster.fqdn" -}}
{{- printf "%s.%s.svc" .service .root.Release.Namespace -}}
{{- with .root.Values.global.cluster.dnsDomain }}.{{ . }}{{ end -}}
{{- end -}}

{{/* The number at the end of an address such as :8481. */}}
{{- define "vmcluster.portOf" -}}
{{- regexFind "[0-9]+$" (toString .) -}}
{{- end -}}
