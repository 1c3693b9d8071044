package selectrpc

import (
	"context"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.Catalog = (*Client)(nil)

// The kinds of items in answers about series. Their numbers are part of the protocol.
const (
	itemTotals      = 0
	itemMetricName  = 1
	itemLabelName   = 2
	itemFocusValue  = 3
	itemLabelPair   = 4
	itemLabelValues = 5
	itemRecord      = 6
)

// itemWriter packs items into frames.
type itemWriter struct {
	out *transport.Responder
	buf []byte
	err error
}

// sendFull sends the frame when it is full.
func (w *itemWriter) sendFull() {
	if len(w.buf) >= frameTarget {
		w.flush()
	}
}

func (w *itemWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		w.err = w.out.Send(w.buf)
	}
	w.buf = w.buf[:0]
}

func appendStatusTotals(dst []byte, s *storageapi.Status) []byte {
	dst = append(dst, itemTotals)
	dst = codec.AppendUvarint(dst, s.TotalSeries)
	return codec.AppendUvarint(dst, s.TotalLabelPairs)
}

func appendEntry(dst []byte, kind byte, e *storageapi.StatusEntry) []byte {
	dst = append(dst, kind)
	dst = appendText(dst, e.Name)
	dst = codec.AppendUvarint(dst, e.Count)
	return appendUsage(dst, e.Usage)
}

func appendUsage(dst []byte, u storageapi.Usage) []byte {
	dst = codec.AppendUvarint(dst, u.Requests)
	return codec.AppendVarint(dst, u.LastRequestSecs)
}

func (r *reader) usage() storageapi.Usage {
	return storageapi.Usage{Requests: r.uvarint(), LastRequestSecs: r.varint()}
}

// statusLists returns the lists by the kind of their items.
func statusLists(s *storageapi.Status) [6]*[]storageapi.StatusEntry {
	return [6]*[]storageapi.StatusEntry{
		itemMetricName: &s.SeriesByMetricName, itemLabelName: &s.SeriesByLabelName, itemFocusValue: &s.SeriesByFocusLabelValue,
		itemLabelPair: &s.SeriesByLabelPair, itemLabelValues: &s.ValuesByLabelName,
	}
}

// parseStatus adds the items of a frame.
func parseStatus(s *storageapi.Status, src []byte) error {
	r := &reader{src: src}
	lists := statusLists(s)
	for len(r.src) > 0 {
		switch kind := r.byte(); {
		case kind == itemTotals:
			s.TotalSeries, s.TotalLabelPairs = r.uvarint(), r.uvarint()
		case int(kind) < len(lists):
			e := storageapi.StatusEntry{Name: string(r.bytes()), Count: r.uvarint(), Usage: r.usage()}
			*lists[kind] = append(*lists[kind], e)
		default:
			r.fail(errkind.New(errkind.Corrupt, "there is no item of kind %d", kind))
		}
	}
	return r.end("status")
}

func appendNameTotals(dst []byte, s *storageapi.NameStats) []byte {
	dst = append(dst, itemTotals)
	dst = codec.AppendVarint(dst, s.SinceSecs)
	for _, x := range []uint64{s.Tracked, s.MaxBytes, s.CurrentBytes} {
		dst = codec.AppendUvarint(dst, x)
	}
	return dst
}

func appendRecord(dst []byte, rec *storageapi.NameRecord) []byte {
	dst = append(dst, itemRecord)
	dst = appendText(dst, rec.Name)
	return appendUsage(dst, rec.Usage)
}

// parseNameStats adds the items of a frame.
func parseNameStats(s *storageapi.NameStats, src []byte) error {
	r := &reader{src: src}
	for len(r.src) > 0 {
		switch kind := r.byte(); kind {
		case itemTotals:
			s.SinceSecs, s.Tracked, s.MaxBytes, s.CurrentBytes = r.varint(), r.uvarint(), r.uvarint(), r.uvarint()
		case itemRecord:
			s.Records = append(s.Records, storageapi.NameRecord{Name: string(r.bytes()), Usage: r.usage()})
		default:
			r.fail(errkind.New(errkind.Corrupt, "there is no item of kind %d", kind))
		}
	}
	return r.end("usage of metrics")
}

// catalog answers the requests about series.
func (c *call) catalog(ctx context.Context, out *transport.Responder) (cov storageapi.Coverage, err error) {
	q, catalog := c.query, c.server.opts.Catalog
	if catalog == nil {
		return cov, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", q.method)
	}
	w := itemWriter{out: out}
	switch q.method {
	case methodDeleteSeries:
		var n int
		n, err = catalog.DeleteSeries(ctx, &q.search)
		w.buf = codec.AppendUvarint(w.buf, uint64(n))
	case methodSeriesCount:
		var n storageapi.Count
		n, err = catalog.SeriesCount(ctx, q.search.Tenant)
		w.buf, cov = codec.AppendUvarint(w.buf, n.Value), n.Coverage
	case methodStatus:
		cov, err = w.status(catalog.Status(ctx, &storageapi.StatusQuery{Search: q.search, FocusLabel: q.text, TopN: q.limit}))
	case methodNameStats:
		cov, err = w.nameStats(catalog.NameStats(ctx, q.nameStats()))
	default:
		err = catalog.ResetNameStats(ctx)
	}
	if err != nil {
		return cov, err
	}
	w.flush()
	return cov, w.err
}

func (w *itemWriter) status(s storageapi.Status, err error) (storageapi.Coverage, error) {
	w.buf = appendStatusTotals(w.buf, &s)
	for kind, list := range statusLists(&s) {
		if list == nil {
			continue
		}
		for i := range *list {
			w.buf = appendEntry(w.buf, byte(kind), &(*list)[i])
			w.sendFull()
		}
	}
	return s.Coverage, err
}

func (w *itemWriter) nameStats(s storageapi.NameStats, err error) (storageapi.Coverage, error) {
	w.buf = appendNameTotals(w.buf, &s)
	for i := range s.Records {
		w.buf = appendRecord(w.buf, &s.Records[i])
		w.sendFull()
	}
	return s.Coverage, err
}

// nameStatsQuery puts the question into the fields of a query: max series is the largest number of requests plus one, so that 0 is
// no limit.
func nameStatsQuery(q *storageapi.NameStatsQuery) *query {
	return &query{method: methodNameStats, search: model.SearchQuery{Tenant: q.Tenant, AllTenants: q.AllTenants, MaxSeries: max(0, q.MaxRequests+1)}, limit: q.Limit, text: q.Pattern}
}

// nameStats is the reverse of nameStatsQuery.
func (q *query) nameStats() *storageapi.NameStatsQuery {
	return &storageapi.NameStatsQuery{Tenant: q.search.Tenant, Limit: q.limit, MaxRequests: q.search.MaxSeries - 1, Pattern: q.text}
}

// number asks for one number.
func (c *Client) number(ctx context.Context, q *query) (n uint64, cov storageapi.Coverage, err error) {
	cov, err = c.call(ctx, q, func(frame []byte) error {
		r := &reader{src: frame}
		n = r.uvarint()
		return r.end("number")
	})
	return n, cov, err
}

// DeleteSeries asks the node to delete series.
func (c *Client) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	n, _, err := c.number(ctx, &query{method: methodDeleteSeries, search: *q})
	return int(n), err
}

// SeriesCount asks for the number of series of a tenant.
func (c *Client) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	n, cov, err := c.number(ctx, &query{method: methodSeriesCount, search: model.SearchQuery{Tenant: tenant}})
	if err != nil {
		return storageapi.Count{}, err
	}
	return storageapi.Count{Value: n, Coverage: cov}, nil
}

// Status asks for counts of series by their labels.
func (c *Client) Status(ctx context.Context, q *storageapi.StatusQuery) (out storageapi.Status, err error) {
	request := &query{method: methodStatus, search: q.Search, limit: q.TopN, text: q.FocusLabel}
	out.Coverage, err = c.call(ctx, request, func(frame []byte) error { return parseStatus(&out, frame) })
	if err != nil {
		return storageapi.Status{}, err
	}
	return out, nil
}

// NameStats asks for the usage of metrics.
func (c *Client) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (out storageapi.NameStats, err error) {
	out.Coverage, err = c.call(ctx, nameStatsQuery(q), func(frame []byte) error { return parseNameStats(&out, frame) })
	if err != nil {
		return storageapi.NameStats{}, err
	}
	return out, nil
}

// ResetNameStats asks the node to count the usage of metrics anew.
func (c *Client) ResetNameStats(ctx context.Context) error {
	return c.order(ctx, &query{method: methodResetNameStats})
}
