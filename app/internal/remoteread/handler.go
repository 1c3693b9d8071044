package remoteread

import (
	"io"
	"net/http"

	"github.com/golang/snappy"

	"vmcluster/app/internal/held"
	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// maxRequestBytes bounds a request, before and after decompression. Requests are matchers and times: a few hundred bytes.
const maxRequestBytes = 4 << 20

// Options are what remote read needs.
type Options struct {
	Config *Config
	Budget *memory.Budget
	Logger *logger.Logger
	// Reading says which samples count; NaN always do here.
	Reading query.Reading
	// MaxSeries is -search.maxUniqueTimeseries, and MaxBytes -search.maxMemoryPerQuery, per query of a request; 0 means no limit.
	MaxSeries int
	MaxBytes  int64
}

// Handler serves /api/v1/read.
type Handler struct{ o Options }

// New returns a handler.
func New(o Options) *Handler {
	o.Reading.KeepNaN = true
	return &Handler{o: o}
}

// Serve answers a read request.
func (h *Handler) Serve(w http.ResponseWriter, c *selectapi.Call) error {
	if c.Method != http.MethodPost {
		return errkind.New(errkind.MethodNotAllowed, "cannot read by %s: remote read requests are sent by POST", c.Method)
	}
	body, err := readBody(c.Body)
	if err != nil {
		return err
	}
	r, err := parseRequest(body)
	if err != nil {
		return err
	}
	sets := make([]*held.Set, 0, len(r.queries))
	defer func() {
		for _, s := range sets {
			s.Release()
		}
	}()
	for i := range r.queries {
		s, err := h.collect(c, &r.queries[i])
		if err != nil {
			return err
		}
		sets = append(sets, s)
	}
	if err := c.RefusePartial(true); err != nil {
		return err
	}
	if r.response == streamedChunks {
		return h.stream(w, c, r, sets)
	}
	return h.sendSamples(w, c, r, sets)
}

// readBody returns the decompressed request.
func readBody(r io.Reader) ([]byte, error) {
	packed, err := io.ReadAll(io.LimitReader(r, maxRequestBytes+1))
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot read the request: %w", err)
	}
	if len(packed) > maxRequestBytes {
		return nil, errkind.New(errkind.TooLarge, "cannot take a read request of more than %d bytes; send fewer queries or shorter matchers", maxRequestBytes)
	}
	n, err := snappy.DecodedLen(packed)
	if err == nil && n > maxRequestBytes {
		return nil, errkind.New(errkind.TooLarge, "cannot take a read request of %d bytes: at most %d are allowed; send fewer queries or shorter matchers", n, maxRequestBytes)
	}
	var body []byte
	if err == nil {
		body, err = snappy.Decode(nil, packed)
	}
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot decompress the read request: %w; it must be one snappy block", err)
	}
	return body, nil
}

// collect finds the series of a query.
func (h *Handler) collect(c *selectapi.Call, q *readQuery) (s *held.Set, err error) {
	done := c.Running("remote read "+selectorText(q.matchers), q.timeRange.Min, q.timeRange.Max, 0)
	defer func() { done(nil, err) }()
	filters, err := c.Filters(q.matchers)
	if err != nil {
		return nil, err
	}
	it, err := c.Search(c.Context(), &model.SearchQuery{Range: q.timeRange, Filters: filters, MaxSeries: h.o.MaxSeries, Histograms: model.WithHistograms})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := it.Close(); err != nil {
			h.o.Logger.Warnf("cannot close the search: %s", err)
		}
	}()
	s, err = held.Collect(it, held.Options{Budget: h.o.Budget, What: "the series of a remote read", MaxSeries: h.o.MaxSeries, MaxBytes: h.o.MaxBytes})
	if err != nil {
		return nil, err
	}
	if err := s.SortByLabels(); err != nil {
		s.Release()
		return nil, err
	}
	return s, nil
}

// selectorText renders matchers for lists of queries.
func selectorText(matchers []model.TagFilter) string {
	text := []byte{'{'}
	for i, m := range matchers {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, m.String()...)
	}
	return string(append(text, '}'))
}

// visitor takes a series of query i.
type visitor func(i int, labels []model.Label, s *found) error

// each decodes all series of all queries.
func (h *Handler) each(c *selectapi.Call, r *readRequest, sets []*held.Set, visit visitor) error {
	var labels []model.Label
	for i, set := range sets {
		d := decoder{Decoder: query.Decoder{Range: r.queries[i].timeRange, Reading: h.o.Reading}}
		for k := range set.Len() {
			if err := c.Context().Err(); err != nil {
				return err
			}
			s, err := d.decode(set.Key(k), set.Blocks(k))
			if err != nil {
				return err
			}
			if s == nil {
				continue
			}
			if labels, err = held.AppendLabels(labels[:0], set.Key(k)); err != nil {
				return err
			}
			if err := visit(i, labels, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// flushBytes is how much of a stream is collected before it is sent.
const flushBytes = 64 << 10

// stream answers with frames of chunks. What fails after the first bytes breaks the connection.
func (h *Handler) stream(w http.ResponseWriter, c *selectapi.Call, r *readRequest, sets []*held.Set) error {
	var chunks []chunk
	var out []byte
	sent := false
	send := func() error {
		if !sent {
			w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
			sent = true
		}
		_, err := w.Write(out)
		out = out[:0]
		return selectapi.Sent(err)
	}
	err := h.each(c, r, sets, func(i int, labels []model.Label, s *found) (err error) {
		if chunks, err = s.chunks(chunks[:0]); err != nil {
			return err
		}
		if out = appendFrames(out, i, labels, chunks); len(out) < flushBytes {
			return nil
		}
		return send()
	})
	if err == nil {
		return send()
	}
	if sent && !selectapi.IsSent(err) {
		h.o.Logger.Errorf("cannot finish the answer to a remote read: %s", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// sendSamples answers with one message.
func (h *Handler) sendSamples(w http.ResponseWriter, c *selectapi.Call, r *readRequest, sets []*held.Set) error {
	m := &message{budget: h.o.Budget, maxSamples: h.o.Config.MaxSamples}
	defer m.release()
	current := 0
	err := h.each(c, r, sets, func(i int, labels []model.Label, s *found) error {
		for ; current < i; current++ {
			m.endResult()
		}
		return m.add(labels, s)
	})
	if err != nil {
		return err
	}
	for ; current < len(sets); current++ {
		m.endResult()
	}
	packed, err := m.pack()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Content-Encoding", "snappy")
	_, err = w.Write(packed)
	return selectapi.Sent(err)
}
