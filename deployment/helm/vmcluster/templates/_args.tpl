{{/* A value of a flag as text. Numbers come as floating point, which must not become 1e+06. */}}
{{- define "vmcluster.scalar" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* Arguments of a list of maps of flags, of which later ones win, sorted by flag. A list repeats the flag, null leaves it out. */}}
{{- define "vmcluster.args" -}}
{{- $flags := dict -}}
{{- range . }}{{ range $flag, $value := . }}{{ $_ := set $flags $flag $value }}{{ end }}{{ end -}}
{{- $args := list -}}
{{- range $flag, $value := $flags -}}
{{- if not (kindIs "invalid" $value) -}}
{{- range ternary $value (list $value) (kindIs "slice" $value) }}{{ $args = append $args (printf "--%s=%s" $flag (include "vmcluster.scalar" .)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $args -}}
{{- end -}}

{{/* Whether TLS is on at the address with the index .i, where it is set by extraArgs. */}}
{{- define "vmcluster.tlsOfArgs" -}}
{{- $tls := .c.extraArgs.tls -}}
{{- if kindIs "slice" $tls }}{{ $tls = ternary (index (append $tls false) (min .i (len $tls))) false (lt .i (len $tls)) }}{{ end -}}
{{- eq (toString $tls) "true" -}}
{{- end -}}

{{/* The HTTP addresses as a JSON list of name, value, port, tls, primary: of extraArgs.httpListenAddr, else of http. The first is primary if none is. */}}
{{- define "vmcluster.listeners" -}}
{{- $all := list -}}
{{- $primary := false -}}
{{- with .c.extraArgs.httpListenAddr -}}
{{- range $i, $addr := ternary . (list .) (kindIs "slice" .) -}}
{{- $tls := eq (include "vmcluster.tlsOfArgs" (dict "c" $.c "i" $i)) "true" -}}
{{- $all = append $all (dict "name" (ternary "http" (printf "http-%d" $i) (eq $i 0)) "value" $addr "tls" $tls "primary" false) -}}
{{- end -}}
{{- else -}}
{{- range $i, $addr := .c.http -}}
{{- $tls := or .tls (eq (include "vmcluster.tlsOfArgs" (dict "c" $.c "i" $i)) "true") -}}
{{- $all = append $all (dict "name" .name "value" .value "tls" $tls "primary" (default false .primary)) -}}
{{- if .primary }}{{ $primary = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $primary }}{{ $_ := set (first $all) "primary" true }}{{ end -}}
{{- range $all }}{{ $_ := set . "port" (include "vmcluster.portOf" .value | int) }}{{ end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The primary HTTP address, as JSON. */}}
{{- define "vmcluster.primary" -}}
{{- $found := dict -}}
{{- range include "vmcluster.listeners" . | fromJsonArray }}{{ if .primary }}{{ $found = . }}{{ end }}{{ end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The flags of the HTTP addresses, as JSON: none where there is one address, and that is where the binary listens anyway. */}}
{{- define "vmcluster.httpFlags" -}}
{{- $flags := dict -}}
{{- $usual := get (dict "vmselect" ":8481" "vminsert" ":8480" "vmstorage" ":8482" "server" ":8428") .name -}}
{{- if not .c.extraArgs.httpListenAddr -}}
{{- $tls := false -}}
{{- range .c.http }}{{ $tls = or $tls .tls .mtls }}{{ end -}}
{{- range $flag := list "value" "tls" "tlsCertFile" "tlsKeyFile" "tlsMinVersion" "mtls" "mtlsCAFile" -}}
{{- $values := list -}}
{{- $set := false -}}
{{- range $.c.http -}}
{{- $value := index . $flag -}}
{{- if $value }}{{ $set = true }}{{ end -}}
{{- if kindIs "invalid" $value }}{{ $value = ternary false "" (has $flag (list "tls" "mtls")) }}{{ end -}}
{{- $values = append $values (include "vmcluster.scalar" $value) -}}
{{- end -}}
{{- if eq $flag "value" }}{{ if ne (join " " $values) $usual }}{{ $_ := set $flags "httpListenAddr" $values }}{{ end }}{{ else if and $tls $set }}{{ $_ := set $flags $flag $values }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $flags -}}
{{- end -}}

{{/* The addresses of the storage nodes for .port ("vminsert" or "vmselect"), as a JSON list. */}}
{{- define "vmcluster.storageNodes" -}}
{{- $storage := dict "root" .root "name" "vmstorage" -}}
{{- include "vmcluster.context" $storage -}}
{{- $nodes := list -}}
{{- if and $storage.c.enabled (not .c.suppressStorageFQDNsRender) -}}
{{- $name := include "vmcluster.component" $storage -}}
{{- $fqdn := include "vmcluster.fqdn" (dict "root" .root "service" $name) -}}
{{- $excluded := default list .c.excludeStorageIDs -}}
{{- if and .root.Values.autoDiscovery (not $excluded) -}}
{{- $nodes = append $nodes (printf "srv+_%s._tcp.%s" .port $fqdn) -}}
{{- else -}}
{{- $port := include "vmcluster.storagePort" (dict "c" $storage.c "port" .port) -}}
{{- range $i := until (int $storage.c.replicaCount) -}}
{{- if not (has (toString $i) (toStrings $excluded)) }}{{ $nodes = append $nodes (printf "%s-%d.%s:%s" $name $i $fqdn $port) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $nodes -}}
{{- end -}}

{{/* The port at which a vmstorage serves .port: that of extraArgs, else that of its Service. */}}
{{- define "vmcluster.storagePort" -}}
{{- if eq .port "vminsert" -}}
{{- include "vmcluster.portOf" (.c.extraArgs.vminsertAddr | default .c.service.vminsertPort) -}}
{{- else -}}
{{- include "vmcluster.portOf" (.c.extraArgs.vmselectAddr | default .c.service.vmselectPort) -}}
{{- end -}}
{{- end -}}

{{/* All ports of a component's pods, as a JSON list of name, port (of the container), servicePort, protocol. */}}
{{- define "vmcluster.ports" -}}
{{- $ports := list -}}
{{- range include "vmcluster.listeners" . | fromJsonArray -}}
{{- $service := ternary ($.c.service.servicePort | default .port) .port .primary -}}
{{- $ports = append $ports (dict "name" .name "port" .port "servicePort" ($service | int) "primary" .primary) -}}
{{- end -}}
{{- if eq .name "vmstorage" -}}
{{- range $port := list "vminsert" "vmselect" -}}
{{- $number := include "vmcluster.storagePort" (dict "c" $.c "port" $port) | int -}}
{{- $ports = append $ports (dict "name" $port "port" $number "servicePort" (index $.c.service (printf "%sPort" $port) | int)) -}}
{{- end -}}
{{- else -}}
{{- $flags := list (list "clusternativeListenAddr" "clusternative" "TCP") -}}
{{- if ne .name "vmselect" -}}
{{- range $kind := list "graphite" "influx" "opentsdb" -}}
{{- $flags = concat $flags (list (list (printf "%sListenAddr" $kind) (printf "%s-tcp" $kind) "TCP") (list (printf "%sListenAddr" $kind) (printf "%s-udp" $kind) "UDP")) -}}
{{- end -}}
{{- $flags = append $flags (list "opentsdbHTTPListenAddr" "opentsdb-http" "TCP") -}}
{{- end -}}
{{- range $flags -}}
{{- $addr := index $.c.extraArgs (index . 0) -}}
{{- if and $addr (or (eq (index . 2) "TCP") $.c.service.udp) -}}
{{- $number := include "vmcluster.portOf" (ternary $addr (list $addr) (kindIs "slice" $addr) | first) | int -}}
{{- $ports = append $ports (dict "name" (index . 1) "port" $number "servicePort" $number "protocol" (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if (default dict .c.vmbackupmanager).enabled }}{{ $ports = append $ports (dict "name" "manager-http" "port" 8300 "servicePort" 8300) }}{{ end -}}
{{- toJson $ports -}}
{{- end -}}
