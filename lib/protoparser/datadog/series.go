package datadog

import (
	"bytes"
	"encoding/binary"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// series is one series as it is read. Its labels are parts of the raw ones.
type series struct {
	name    []byte // of the metric in a protobuf message, for messages
	raw     []byte // texts with their kind and size before them
	texts   int    // in raw
	samples []model.Sample
	nulls   int
	labels  []model.Label
	clean   []byte // the name as it is stored
	list    protoparser.JSONScanner
	sketch
}

// The kinds of texts in raw labels.
const (
	metricName   = 'n'
	nameSuffix   = 'x' // of what becomes of a sketch
	quantileText = 'q'
	hostName     = 'h'
	deviceName   = 'd'
	sourceType   = 's'
	resourceType = 'r' // its name follows
	resourceName = 'v'
	tag          = 't'
)

func (x *series) reset() {
	x.name, x.raw, x.texts, x.samples, x.nulls = nil, x.raw[:0], 0, x.samples[:0], 0
}

// add adds a text to the raw labels.
func (x *series) add(kind byte, text []byte) {
	x.texts++
	x.raw = appendText(x.raw, kind, text)
}

func appendText(dst []byte, kind byte, text []byte) []byte {
	dst = binary.AppendUvarint(append(dst, kind), uint64(len(text)))
	return append(dst, text...)
}

// fault returns what keeps the series from being stored, or nothing.
func (x *series) fault() string {
	if x.texts > protoparser.MaxLabels {
		return protoparser.TooManyLabelsFault()
	}
	return ""
}

// parseLabels takes raw labels apart.
func (x *series) parseLabels(raw []byte, sanitize bool) {
	x.labels = x.labels[:0]
	var name, suffix, resource []byte
	for len(raw) > 0 {
		kind := raw[0]
		size, n := binary.Uvarint(raw[1:])
		text := raw[1+n:][:size]
		raw = raw[1+n+int(size):]
		switch kind {
		case metricName:
			name = text
		case nameSuffix:
			suffix = text
		case resourceType:
			resource = text
		case resourceName:
			x.addLabel(bytesutil.String(resource), text)
		case quantileText:
			x.addLabel("quantile", text)
		case hostName:
			x.addLabel("host", text)
		case deviceName:
			x.addLabel("device", text)
		case sourceType:
			x.addLabel("source_type_name", text)
		case tag:
			x.addTag(text)
		}
	}
	x.clean = x.clean[:0]
	if sanitize {
		x.clean = appendSanitized(x.clean, name)
	} else {
		x.clean = append(x.clean, name...)
	}
	x.clean = append(x.clean, suffix...)
	x.addLabel(model.MetricNameLabel, x.clean)
	x.labels = protoparser.MergeNames(x.labels, "")
}

func (x *series) addLabel(name string, value []byte) {
	x.labels = append(x.labels, model.Label{Name: name, Value: bytesutil.String(value)})
}

// addTag adds the label which a tag becomes.
func (x *series) addTag(text []byte) {
	name, value, ok := bytes.Cut(text, []byte{':'})
	label := model.Label{Name: bytesutil.String(name), Value: bytesutil.String(value)}
	if !ok {
		label.Value = "no_label_value"
	}
	if label.Name == "host" {
		label.Name = "exported_host"
	}
	x.labels = append(x.labels, label)
}

// appendSanitized appends the name of a metric as Datadog has it.
func appendSanitized(dst, name []byte) []byte {
	start := len(dst)
	for _, c := range name {
		isLetter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		before := byte(0)
		if len(dst) > start {
			before = dst[len(dst)-1]
		}
		switch {
		case isLetter:
			dst = append(dst, c)
		case c == '.':
			if before == '_' {
				dst = dst[:len(dst)-1]
			}
			dst = append(dst, c)
		case before != '_' && before != '.':
			dst = append(dst, '_')
		}
	}
	return dst
}
