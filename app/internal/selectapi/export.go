package selectapi

import (
	"math"
	"net/http"
	"strconv"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
)

// exportFormat writes the series of an export in one of its forms.
type exportFormat struct {
	contentType    string
	header, footer string
	separator      string
	appendSeries   func(dst []byte, s *query.RawSeries) []byte
	// byRow says that a series may be cut anywhere, as forms with a sample per line allow. Long ones are then sent in pieces.
	byRow bool
}

// export serves /api/v1/export: raw samples as JSON lines, in the form of a
// query_range result (format=promapi) or as text exposition (format=prometheus).
func (a *API) export(w http.ResponseWriter, r *request) error {
	q, err := a.exportQuery(r)
	if err != nil {
		return err
	}
	maxRows, err := intArg(r.Request, "max_rows_per_line", 0)
	if err != nil {
		return err
	}
	format, err := newExportFormat(r.Form.Get("format"), r.Form.Get("values"), maxRows)
	if err != nil {
		return err
	}
	return a.exportDecoded(w, r, q, format)
}

// exportDecoded writes the samples that q selects.
func (a *API) exportDecoded(w http.ResponseWriter, r *request, q *model.SearchQuery, format *exportFormat) error {
	it, err := a.o.Parts.Search(r.Context(), q)
	if err != nil {
		return limitError(err, "search.maxExportSeries", q.MaxSeries)
	}
	defer closeIterator(a.o.Logger, it)
	out := &exportWriter{w: w, format: format, logger: a.o.Logger}
	d := newDecoder(it, q.Range, a.o.DedupIntervalMs)
	for d.Next() {
		if err := out.add(d.At()); err != nil {
			return err
		}
	}
	return out.finish(limitError(searchEnd(d.Err(), it), "search.maxExportSeries", q.MaxSeries))
}

// searchEnd is the error of a search which has come to its end, err being that of its reader. Raw samples are never answered partially.
func searchEnd(err error, it storageapi.SeriesIterator) error {
	if coverage := it.Coverage(); err == nil && coverage.Partial {
		return partialError(coverage)
	}
	return err
}

func (a *API) exportQuery(r *request) (*model.SearchQuery, error) {
	now := a.o.Now()
	filters, err := selected(r.Request)
	if err != nil {
		return nil, err
	}
	start, err := timeArg(r.Request, "start", minTimeMs, now)
	if err != nil {
		return nil, err
	}
	end, err := timeArg(r.Request, "end", now.UnixMilli()+2*dayMs, now)
	if err != nil {
		return nil, err
	}
	return &model.SearchQuery{
		Tenant:     r.tenant,
		AllTenants: r.all,
		Range:      model.TimeRange{Min: start, Max: max(start, end)},
		Filters:    filters,
		MaxSeries:  a.o.Config.MaxExportSeries,
	}, nil
}

func newExportFormat(name, values string, maxRows int) (*exportFormat, error) {
	appendValue := appendExportValue
	switch values {
	case "":
	case "bits":
		appendValue = appendValueBits
	default:
		return nil, errkind.New(errkind.BadRequest, "cannot parse values=%q: want bits, for values as the 16 hex digits of their float64, or nothing", values)
	}
	switch name {
	case "":
		return &exportFormat{contentType: "application/stream+json; charset=utf-8", appendSeries: func(dst []byte, s *query.RawSeries) []byte {
			return appendExportLines(dst, s, maxRows, appendValue)
		}}, nil
	case "promapi":
		return &exportFormat{
			contentType: "application/stream+json; charset=utf-8",
			header:      `{"status":"success","data":{"resultType":"matrix","result":[`,
			separator:   ",", footer: "]}}",
			appendSeries: func(dst []byte, s *query.RawSeries) []byte {
				return appendSeriesJSON(dst, &query.ResultSeries{Labels: s.Labels, Timestamps: s.Timestamps, Values: s.Values}, query.Matrix)
			},
		}, nil
	case "prometheus":
		return &exportFormat{contentType: "text/plain; charset=utf-8", appendSeries: appendExposition, byRow: true}, nil
	}
	return nil, errkind.New(errkind.BadRequest, "unsupported export format=%q: want promapi, prometheus or nothing for JSON lines", name)
}

// appendExportLines appends the series as JSON lines of at most maxRows samples each (0: all in one).
func appendExportLines(dst []byte, s *query.RawSeries, maxRows int, appendValue func([]byte, float64) []byte) []byte {
	if maxRows <= 0 {
		maxRows = len(s.Values)
	}
	for start := 0; start < len(s.Values); start += maxRows {
		end := min(start+maxRows, len(s.Values))
		dst = append(dst, `{"metric":`...)
		dst = appendMetric(dst, s.Labels)
		dst = append(dst, `,"values":[`...)
		for i, v := range s.Values[start:end] {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, v)
		}
		dst = append(dst, `],"timestamps":[`...)
		for i, ts := range s.Timestamps[start:end] {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendInt(dst, ts, 10)
		}
		dst = append(dst, "]}\n"...)
	}
	return dst
}

// appendExportValue appends a JSON number, "Infinity", "-Infinity", or null for NaN.
func appendExportValue(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "null"...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	return appendFloat(dst, v)
}

// appendValueBits appends the bits of the float64 as a string of 16 hex digits, which keeps NaN payloads.
func appendValueBits(dst []byte, v float64) []byte {
	const hex = "0123456789abcdef"
	bits := math.Float64bits(v)
	dst = append(dst, '"')
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hex[bits>>shift&15])
	}
	return append(dst, '"')
}

// appendExposition appends one line of text exposition per sample.
func appendExposition(dst []byte, s *query.RawSeries) []byte {
	name := appendSeriesName(nil, s.Labels, false)
	for i, ts := range s.Timestamps {
		dst = append(dst, name...)
		dst = append(dst, ' ')
		dst = appendFloat(dst, s.Values[i])
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, ts, 10)
		dst = append(dst, '\n')
	}
	return dst
}

// exportWriter sends an export in pieces. An error that comes after the first
// piece is appended and breaks the connection, so that the client notices.
type exportWriter struct {
	w       http.ResponseWriter
	format  *exportFormat
	logger  *logger.Logger
	buf     []byte
	series  int
	started bool
}

func (e *exportWriter) add(s *query.RawSeries) error {
	if e.series > 0 {
		e.buf = append(e.buf, e.format.separator...)
	}
	e.series++
	for e.format.byRow && len(s.Values) > rowsPerPiece {
		piece := query.RawSeries{Labels: s.Labels, Timestamps: s.Timestamps[:rowsPerPiece], Values: s.Values[:rowsPerPiece]}
		if err := e.send(e.format.appendSeries(e.buf, &piece)); err != nil {
			return err
		}
		s = &query.RawSeries{Labels: s.Labels, Timestamps: s.Timestamps[rowsPerPiece:], Values: s.Values[rowsPerPiece:]}
	}
	return e.send(e.format.appendSeries(e.buf, s))
}

// rowsPerPiece is how many samples of a series are made text before some of it is sent.
const rowsPerPiece = 4096

// send takes what is to be sent, and sends it when there is enough of it.
func (e *exportWriter) send(buf []byte) error {
	e.buf = buf
	if len(e.buf) < flushBytes {
		return nil
	}
	return e.flush()
}

func (e *exportWriter) flush() error {
	if !e.started {
		e.started = true
		e.w.Header().Set("Content-Type", e.format.contentType)
		if _, err := e.w.Write([]byte(e.format.header)); err != nil {
			return clientGone(err)
		}
	}
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	return clientGone(err)
}

func (e *exportWriter) finish(err error) error {
	if err != nil && !e.started {
		return err
	}
	if err != nil {
		e.logger.Errorf("cannot finish the export: %s", err)
		_, _ = e.w.Write([]byte("\ncannot finish the export: " + err.Error() + "\n")) // best effort before the abort
		panic(http.ErrAbortHandler)
	}
	e.buf = append(e.buf, e.format.footer...)
	return e.flush()
}

// closeIterator closes it and logs a failure, which no longer changes the answer.
func closeIterator(l *logger.Logger, it storageapi.SeriesIterator) {
	if err := it.Close(); err != nil {
		l.Warnf("cannot close the search: %s", err)
	}
}
