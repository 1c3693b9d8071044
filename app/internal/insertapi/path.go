package insertapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// PathStyle says which paths the API answers.
type PathStyle uint8

const (
	// Cluster paths are /insert/<tenant>/prometheus/...
	Cluster PathStyle = iota
	// SingleNode paths are /api/v1/... with an optional /prometheus before.
	SingleNode
)

// format is a kind of body.
type format uint8

const (
	remoteWrite format = iota
	textImport
	jsonImport
	csvImport
	nativeImport
	influxWrite
	influxQuery
	influxHealth
	influxPing
	graphiteLines
	openTSDBLines
	openTSDBHTTP
	otlpMetrics
	newRelicEvents
	newRelicRoot
	newRelicInventory
	datadogV1
	datadogV2
	datadogSketches
	datadogValidate
	datadogCheckRun
	datadogIntake
	datadogMetadata
	zabbixHistory

	formatCount
)

// target is what a path asks for.
type target struct {
	format format
	// tenant is the path segment that names the tenant; empty when headers do.
	tenant string
	labels []model.Label // of a Pushgateway path
	// pushgateway says that success is answered 200 as the Pushgateway does.
	pushgateway bool
	// symbolTable says that the body is a message of remote write 2.0.
	symbolTable bool
}

// parsePath returns the target of a path. Doubled and trailing slashes are
// ignored. It is not ours when the error is nil and ok is false.
func parsePath(style PathStyle, path string) (t target, ok bool, err error) {
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	if style == SingleNode {
		trimmed := segments
		if len(trimmed) > 1 && trimmed[0] == "prometheus" {
			trimmed = trimmed[1:]
		}
		suffix := strings.Join(trimmed, "/")
		switch suffix {
		case "write", "api/v2/write", "query": // Influx clients know no prefix
			suffix = "influx/" + suffix
		}
		ok, err = t.parseSuffix(suffix)
		return t, ok, err
	}
	suffix, ok := t.cutTenant(segments)
	if !ok {
		return t, false, nil
	}
	if suffix == "prometheus" {
		return t, true, nil
	}
	ok, err = t.parseSuffix(strings.TrimPrefix(suffix, "prometheus/"))
	if !ok && err == nil {
		err = unsupported(path, t.tenant, suffix)
	}
	return t, ok, err
}

// cutTenant takes the tenant from a path of the cluster, and returns what follows; false when it is not below /insert.
func (t *target) cutTenant(segments []string) (suffix string, ok bool) {
	if len(segments) == 0 || segments[0] != "insert" {
		return "", false
	}
	segments = segments[1:]
	if len(segments) > 0 && !isSuffixStart(segments[0]) {
		t.tenant, segments = segments[0], segments[1:]
	}
	return strings.Join(segments, "/"), true
}

// isSuffixStart reports whether a segment after /insert begins the suffix, so that the path names no tenant.
func isSuffixStart(s string) bool {
	switch s {
	case "prometheus", "api", "influx", "datadog", "newrelic", "opentelemetry", "opentsdb", "zabbixconnector", "graphite":
		return true
	}
	return false
}

// parseSuffix understands what follows the optional prometheus/.
func (t *target) parseSuffix(suffix string) (ok bool, err error) {
	if t.format, ok = formatOf(suffix); ok {
		return true, nil
	}
	rest, found := strings.CutPrefix(suffix, "api/v1/import/prometheus/metrics/")
	if !found {
		return false, nil
	}
	t.format = textImport
	t.pushgateway = strings.HasPrefix(rest, "job/")
	t.labels, err = pushgatewayLabels(rest)
	return err == nil, err
}

// formatOf returns what is at a path.
func formatOf(suffix string) (f format, ok bool) {
	switch suffix {
	case "api/v1/write", "api/v1/push":
		return remoteWrite, true
	case "api/v1/import/prometheus":
		return textImport, true
	case "api/v1/import":
		return jsonImport, true
	case "api/v1/import/csv":
		return csvImport, true
	case "api/v1/import/native":
		return nativeImport, true
	case "opentelemetry/v1/metrics", "opentelemetry/api/v1/push":
		return otlpMetrics, true
	case "influx/write", "influx/api/v2/write":
		return influxWrite, true
	case "influx/query":
		return influxQuery, true
	case "influx/health":
		return influxHealth, true
	case "influx/ping":
		return influxPing, true
	case "newrelic/infra/v2/metrics/events/bulk":
		return newRelicEvents, true
	case "newrelic":
		return newRelicRoot, true
	case "newrelic/inventory/deltas":
		return newRelicInventory, true
	case "datadog/api/v1/series":
		return datadogV1, true
	case "datadog/api/v2/series":
		return datadogV2, true
	case "datadog/api/beta/sketches":
		return datadogSketches, true
	case "datadog/api/v1/validate":
		return datadogValidate, true
	case "datadog/api/v1/check_run":
		return datadogCheckRun, true
	case "datadog/intake":
		return datadogIntake, true
	case "datadog/api/v1/metadata":
		return datadogMetadata, true
	case "zabbixconnector/api/v1/history":
		return zabbixHistory, true
	}
	return 0, false
}

// unsupported is the error of a path below /insert that leads nowhere.
func unsupported(path, tenant, suffix string) error {
	if isReadSuffix(suffix) {
		if tenant == "" {
			tenant = "0"
		}
		return errkind.New(errkind.NotFound, "unsupported path requested: %q: paths below /insert take writes only; read at /select/%s/%s of vmselect (port 8481 by default)",
			path, tenant, suffix)
	}
	return errkind.New(errkind.NotFound, "unsupported path requested: %q; writes go to /insert/<accountID>[:<projectID>]/prometheus/api/v1/write, "+
		".../api/v1/import, .../api/v1/import/csv, .../api/v1/import/native or .../api/v1/import/prometheus, and to /insert/<accountID>[:<projectID>]/influx/write; "+
		"OpenTSDB's /api/put is served at -opentsdbHTTPListenAddr", path)
}

func isReadSuffix(suffix string) bool {
	rest := strings.TrimPrefix(suffix, "prometheus/")
	for _, prefix := range []string{"api/v1/query", "api/v1/series", "api/v1/label", "api/v1/export", "api/v1/status", "api/v1/metadata",
		"api/v1/rules", "api/v1/alerts", "api/v1/admin", "federate", "vmui", "graph", "vmalert", "expand-with-exprs", "prettify-query"} {
		if strings.HasPrefix(rest, prefix) {
			return true
		}
	}
	return false
}

// pushgatewayLabels reads job/<name>{/<label>/<value>}, where a label name which ends with
// @base64 has an encoded value.
func pushgatewayLabels(s string) ([]model.Label, error) {
	var labels []model.Label
	parts := strings.Split(s, "/")
	for i := 0; i < len(parts); i += 2 {
		name, encoded := strings.CutSuffix(parts[i], "@base64")
		if i+1 == len(parts) {
			return nil, errkind.New(errkind.BadRequest, "cannot parse labels of path %q: label %q has no value", s, name)
		}
		value := parts[i+1]
		if encoded {
			b, err := decodeBase64(value)
			if err != nil {
				return nil, errkind.New(errkind.BadRequest, "cannot parse labels of path %q: the value %q of label %q is not base64: %w", s, value, name, err)
			}
			value = string(b)
		}
		labels = setLabel(labels, name, value)
	}
	return labels, nil
}

// decodeBase64 takes the URL-safe and the standard alphabet, padded or not.
func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if strings.ContainsAny(s, "+/") {
		return base64.RawStdEncoding.DecodeString(s)
	}
	return base64.RawURLEncoding.DecodeString(s)
}

// setLabel returns labels with the given one added or replaced.
func setLabel(labels []model.Label, name, value string) []model.Label {
	for i := range labels {
		if labels[i].Name == name {
			labels[i].Value = value
			return labels
		}
	}
	return append(labels, model.Label{Name: name, Value: value})
}

// extraLabels adds the extra_label=name=value arguments to labels.
func extraLabels(labels []model.Label, args url.Values) ([]model.Label, error) {
	for _, arg := range args["extra_label"] {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, errkind.New(errkind.BadRequest, "cannot parse query arg extra_label=%q: want name=value", arg)
		}
		labels = setLabel(labels, name, value)
	}
	return labels, nil
}

// multitenant is the tenant that stands for "see the labels".
const multitenant = "multitenant"

// tenantOf returns the tenant of a cluster request.
func (a *API) tenantOf(t *target, h http.Header) (tenant model.TenantID, fromLabels bool, err error) {
	if a.style == SingleNode {
		return tenant, false, nil
	}
	text := t.tenant
	if text == "" {
		if !a.tenantHeaders {
			return tenant, false, errkind.New(errkind.BadRequest, "the path names no tenant: want /insert/<accountID>[:<projectID>]/..., or set -enableMultitenancyViaHeaders")
		}
		text = tenantOfHeaders(h)
	}
	if text == multitenant {
		return tenant, true, nil
	}
	tenant, err = model.ParseTenantID(text)
	return tenant, false, err
}

func tenantOfHeaders(h http.Header) string {
	account, project := h.Get("AccountID"), h.Get("ProjectID")
	if account == multitenant {
		return account
	}
	if account == "" {
		account = "0"
	}
	if project == "" {
		project = "0"
	}
	return account + ":" + project
}
