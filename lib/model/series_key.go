package model

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// MetricNameLabel is the label that holds the metric name in protocols and filters.
const MetricNameLabel = "__name__"

// Label is a name and value pair. The strings may alias a request buffer: who
// keeps a label beyond the call it was passed to copies it.
type Label struct {
	Name  string
	Value string
}

// AppendSeriesKey appends the canonical key of the series with the given
// labels, one of which may be __name__. It sorts labels in place by name and
// drops those with empty values. A repeated or an empty label name is an error of kind
// BadRequest.
func AppendSeriesKey(dst []byte, t TenantID, labels []Label) ([]byte, error) {
	if !slices.IsSortedFunc(labels, compareLabelNames) {
		slices.SortFunc(labels, compareLabelNames)
	}
	metric := ""
	for i := range labels {
		if i > 0 && labels[i].Name == labels[i-1].Name {
			return dst, errkind.New(errkind.BadRequest, "duplicate label name %q with values %q and %q", labels[i].Name, labels[i-1].Value, labels[i].Value)
		}
		if labels[i].Name == MetricNameLabel {
			metric = labels[i].Value
		}
	}
	dst = t.AppendTo(dst)
	dst = appendString(dst, metric)
	for i := range labels {
		l := &labels[i]
		if l.Value == "" || l.Name == MetricNameLabel {
			continue
		}
		if l.Name == "" {
			return dst, errkind.New(errkind.BadRequest, "empty label name with value %q", l.Value)
		}
		dst = appendString(dst, l.Name)
		dst = appendString(dst, l.Value)
	}
	return dst, nil
}

func compareLabelNames(a, b Label) int { return strings.Compare(a.Name, b.Name) }

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// HashSeriesKey returns the hash that routing and lookup tables use.
func HashSeriesKey(key []byte) uint64 { return xxhash.Sum64(key) }

// SeriesKeyTenant returns the tenant of a key, which must be at least TenantSize bytes long.
func SeriesKeyTenant(key []byte) TenantID {
	return TenantID{AccountID: binary.BigEndian.Uint32(key), ProjectID: binary.BigEndian.Uint32(key[4:])}
}

// ParseSeriesKey returns the tenant and appends the labels of the key to dst:
// the metric name as __name__ first unless it is empty, then the labels
// by ascending name. The strings alias key. An error means the key is
// damaged and is of kind Corrupt.
func ParseSeriesKey(dst []Label, key []byte) (TenantID, []Label, error) {
	if len(key) <= TenantSize {
		return TenantID{}, dst, errkind.New(errkind.Corrupt, "cannot parse series key of %d bytes: want more than %d", len(key), TenantSize)
	}
	t := SeriesKeyTenant(key)
	metric, tail, ok := cutString(key[TenantSize:])
	if !ok {
		return t, dst, errkind.New(errkind.Corrupt, "cannot parse metric name of series key %q", key)
	}
	if metric != "" {
		dst = append(dst, Label{Name: MetricNameLabel, Value: metric})
	}
	previous := ""
	for len(tail) > 0 {
		var l Label
		var okName, okValue bool
		l.Name, tail, okName = cutString(tail)
		l.Value, tail, okValue = cutString(tail)
		if !okName || !okValue || l.Name <= previous || l.Value == "" || l.Name == MetricNameLabel {
			return t, dst, errkind.New(errkind.Corrupt, "cannot parse labels of series key %q", key)
		}
		previous = l.Name
		dst = append(dst, l)
	}
	return t, dst, nil
}

// cutString splits a length-prefixed string off src. The string aliases src.
func cutString(src []byte) (s string, tail []byte, ok bool) {
	n, size := binary.Uvarint(src)
	if size <= 0 || n > uint64(len(src)-size) {
		return "", nil, false
	}
	end := size + int(n)
	return bytesutil.String(src[size:end]), src[end:], true
}

// SeriesKeyString renders a key as tenant and name{label="value",...} for messages.
func SeriesKeyString(key []byte) string {
	t, labels, err := ParseSeriesKey(nil, key)
	if err != nil {
		return err.Error()
	}
	return "tenant " + t.String() + " " + LabelsString(labels)
}

// LabelsString renders labels as name{label="value",...}.
func LabelsString(labels []Label) string {
	var b strings.Builder
	n := 0
	for _, l := range labels {
		if l.Name == MetricNameLabel {
			b.WriteString(l.Value)
		}
	}
	for _, l := range labels {
		if l.Name == MetricNameLabel {
			continue
		}
		b.WriteByte(",{"[btoi(n == 0)])
		n++
		b.WriteString(l.Name)
		b.WriteString(`=`)
		b.WriteString(quote(l.Value))
	}
	if n > 0 || b.Len() == 0 {
		if n == 0 {
			b.WriteByte('{')
		}
		b.WriteByte('}')
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// MetricOfKey returns the front of a series key: tenant and metric name. Keys of one metric of one tenant have it in common,
// and no other keys have. It aliases key.
func MetricOfKey(key []byte) []byte {
	if len(key) < TenantSize {
		return key
	}
	n, size := binary.Uvarint(key[TenantSize:])
	if size <= 0 || n > uint64(len(key)-TenantSize-size) {
		return key
	}
	return key[:TenantSize+size+int(n)]
}
