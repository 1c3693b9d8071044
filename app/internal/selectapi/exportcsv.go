package selectapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// exportCSV serves /api/v1/export/csv: a row per sample, whose columns the format argument names.
func (a *API) exportCSV(w http.ResponseWriter, r *request) error {
	q, err := a.exportQuery(r)
	if err != nil {
		return err
	}
	columns, err := parseCSVFormat(r.Form.Get("format"))
	if err != nil {
		return err
	}
	header := make([]byte, 0, 64)
	for i, c := range columns {
		header = appendComma(header, i)
		header = appendCSVField(header, c.text)
	}
	return a.exportDecoded(w, r, q, &exportFormat{
		contentType: "text/csv; charset=utf-8", header: string(header) + "\n", byRow: true,
		appendSeries: func(dst []byte, s *query.RawSeries) []byte { return appendCSV(dst, columns, s) },
	})
}

// csvColumn is one column of a CSV export: a label, or the value, or the time.
type csvColumn struct {
	text  string // as it stands in the format
	label string // name; empty for the others
	time  func(dst []byte, ms int64) []byte
}

// parseCSVFormat parses a list of __value__, __timestamp__[:<time format>] and label names.
func parseCSVFormat(format string) ([]csvColumn, error) {
	if format == "" {
		return nil, errkind.New(errkind.BadRequest, "missing `format` arg; want the columns, such as format=__name__,job,__value__,__timestamp__:unix_ms")
	}
	var columns []csvColumn
	for text := range strings.SplitSeq(format, ",") {
		c := csvColumn{text: text}
		name, timeFormat, _ := strings.Cut(text, ":")
		switch name {
		case "__timestamp__":
			if c.time = timeWriter(timeFormat); c.time == nil {
				return nil, errkind.New(errkind.BadRequest, "cannot parse `format` arg %q: unknown time format %q; want unix_s, unix_ms, unix_ns, rfc3339 or custom:<layout>, a layout being 2006-01-02 15:04:05 written in the wanted form",
					format, timeFormat)
			}
		case "__value__":
		default:
			if c.label = text; text == "" {
				return nil, errkind.New(errkind.BadRequest, "cannot parse `format` arg %q: a column has no name", format)
			}
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// timeWriter returns what writes times in the format, or nil if there is no such.
func timeWriter(format string) func(dst []byte, ms int64) []byte {
	layout, isCustom := strings.CutPrefix(format, "custom:")
	switch {
	case isCustom && layout != "":
	case format == "rfc3339":
		layout = time.RFC3339
	case format == "" || format == "unix_ms":
		return func(dst []byte, ms int64) []byte { return strconv.AppendInt(dst, ms, 10) }
	case format == "unix_s":
		return func(dst []byte, ms int64) []byte {
			return strconv.AppendInt(dst, int64(math.Floor(float64(ms)/1e3)), 10)
		}
	case format == "unix_ns":
		return func(dst []byte, ms int64) []byte {
			return append(strconv.AppendInt(dst, ms, 10), "000000"...)
		}
	default:
		return nil
	}
	return func(dst []byte, ms int64) []byte {
		var b [64]byte
		return appendCSVField(dst, string(time.UnixMilli(ms).UTC().AppendFormat(b[:0], layout)))
	}
}

// appendCSV appends a row per sample.
func appendCSV(dst []byte, columns []csvColumn, s *query.RawSeries) []byte {
	fields := make([]string, len(columns)) // of the labels, which are the same in all rows
	for j, c := range columns {
		if c.label != "" {
			fields[j] = string(appendCSVField(nil, labelValue(s.Labels, c.label)))
		}
	}
	for i, ts := range s.Timestamps {
		for j := range columns {
			dst = appendComma(dst, j)
			switch c := &columns[j]; {
			case c.time != nil:
				dst = c.time(dst, ts)
			case c.label != "":
				dst = append(dst, fields[j]...)
			default:
				dst = appendFloat(dst, s.Values[i])
			}
		}
		dst = append(dst, '\n')
	}
	return dst
}

func appendComma(dst []byte, column int) []byte {
	if column > 0 {
		return append(dst, ',')
	}
	return dst
}

func labelValue(labels []model.Label, name string) string {
	for i := range labels {
		if labels[i].Name == name {
			return labels[i].Value
		}
	}
	return ""
}

// appendCSVField appends a field, in quotes where it needs them.
func appendCSVField(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, ",\"\r\n") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}
