package selectrpc

import (
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

// method is the first byte of a request. The numbers are part of the protocol.
type method uint8

const (
	methodSearch      method = 1
	methodLabelNames  method = 2
	methodLabelValues method = 3
	methodTenants     method = 4
	methodFlush       method = 5
	methodMerge       method = 6
	// The first of the requests to the Catalog.
	methodDeleteSeries   method = 7
	methodSeriesCount    method = 8
	methodStatus         method = 9
	methodNameStats      method = 10
	methodResetNameStats method = 11
	methodMetadata       method = 12

	methodReduce method = 13

	methodVersions method = 14

	methodExemplars method = 15

	methods = 16
)

// String names the method as metrics do.
func (m method) String() string {
	switch m {
	case methodSearch:
		return "search"
	case methodLabelNames:
		return "labelNames"
	case methodLabelValues:
		return "labelValues"
	case methodTenants:
		return "tenants"
	case methodFlush:
		return "flush"
	case methodMerge:
		return "merge"
	case methodDeleteSeries:
		return "deleteSeries"
	case methodSeriesCount:
		return "seriesCount"
	case methodStatus:
		return "tsdbStatus"
	case methodNameStats:
		return "getMetricNamesUsageStats"
	case methodResetNameStats:
		return "resetMetricNamesStats"
	case methodReduce:
		return "reduce"
	case methodMetadata:
		return "searchMetadata"
	case methodVersions:
		return "versions"
	case methodExemplars:
		return "searchExemplars"
	}
	return "unknown"
}

// query is a request.
type query struct {
	method method
	search model.SearchQuery // also holds the range of methodTenants
	limit  int
	text   string // label name or prefix of partitions

	fragment *fragment.Fragment // of methodReduce
	several  bool               // the answer to methodReduce may have several results; only for nodes with CapabilityResults

	traced bool // the answer carries a trace; only for nodes with CapabilityTrace
}

const (
	flagKeysOnly   = 1 << 0
	detailShift    = 1      // two bits
	aspectShift    = 3      // three bits
	flagHistograms = 1 << 6 // a byte with model.Histograms follows; only for nodes with CapabilityHistograms
	flagTraced     = 1 << 7
)

// appendTo appends all fields; those a method does not need are zero and short.
func (q *query) appendTo(dst []byte) []byte {
	s := &q.search
	invariants.Check(!s.AllTenants, "a storage node is asked for all tenants at once")
	dst = append(dst, byte(q.method))
	dst = s.Tenant.AppendTo(dst)
	dst = codec.AppendVarint(dst, s.Range.Min)
	dst = codec.AppendVarint(dst, s.Range.Max)
	dst = codec.AppendUvarint(dst, uint64(max(0, s.MaxSeries)))
	flags := byte(0)
	if s.KeysOnly {
		flags |= flagKeysOnly
	}
	if q.traced {
		flags |= flagTraced
	}
	flags |= byte(s.Detail)<<detailShift | byte(s.Aspect)<<aspectShift
	if s.Histograms != model.NoHistograms {
		dst = append(dst, flags|flagHistograms, byte(s.Histograms))
	} else {
		dst = append(dst, flags)
	}
	dst = codec.AppendUvarint(dst, uint64(max(0, q.limit)))
	dst = appendText(dst, q.text)
	dst = codec.AppendUvarint(dst, uint64(len(s.Filters)))
	for _, set := range s.Filters {
		dst = codec.AppendUvarint(dst, uint64(len(set)))
		for _, f := range set {
			dst = append(dst, byte(f.Op))
			dst = appendText(dst, f.Name)
			dst = appendText(dst, f.Value)
		}
	}
	if q.method == methodReduce {
		dst = appendFragment(dst, q)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = codec.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendRequest makes a query a transport.Request.
func (q *query) AppendRequest(dst []byte, _ uint64) ([]byte, error) { return q.appendTo(dst), nil }

// reader takes fields off the front of a message. After the first failure it
// returns zero values.
type reader struct {
	src []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.src = nil
}

func (r *reader) uvarint() uint64 {
	x, tail, err := codec.CutUvarint(r.src)
	if err != nil {
		r.fail(err)
		return 0
	}
	r.src = tail
	return x
}

func (r *reader) varint() int64 { return codec.UnZigZag(r.uvarint()) }

// count reads the number of items which follow and take at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.src)/size) {
		r.fail(errkind.New(errkind.Corrupt, "cannot read %d items from %d bytes", n, len(r.src)))
		return 0
	}
	return int(n)
}

// number reads a number which fits an int32.
func (r *reader) number() int {
	n := r.uvarint()
	if n > 1<<31-1 {
		n = 1<<31 - 1
	}
	return int(n)
}

func (r *reader) byte() byte { return r.take(1)[0] }

// take returns the next n bytes, zeros after a failure.
func (r *reader) take(n int) []byte {
	if len(r.src) < n {
		r.fail(errkind.New(errkind.Corrupt, "cannot read %d bytes: only %d are left", n, len(r.src)))
		return make([]byte, n)
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

// bytes reads a byte string, which aliases the message.
func (r *reader) bytes() []byte {
	b, tail, err := codec.CutBytes(r.src)
	if err != nil {
		r.fail(err)
		return nil
	}
	r.src = tail
	return b
}

func (r *reader) tenant() model.TenantID { return model.SeriesKeyTenant(r.take(model.TenantSize)) }

// end returns the first failure; bytes left over are one too.
func (r *reader) end(what string) error {
	if r.err == nil && len(r.src) > 0 {
		r.err = errkind.New(errkind.Corrupt, "%d bytes are left over", len(r.src))
	}
	if r.err != nil {
		return errkind.New(errkind.Corrupt, "cannot decode %s: %w", what, r.err)
	}
	return nil
}

func parseQuery(src []byte) (*query, error) {
	r := &reader{src: src}
	q := &query{method: method(r.byte())}
	s := &q.search
	s.Tenant = r.tenant()
	s.Range.Min, s.Range.Max = r.varint(), r.varint()
	s.MaxSeries = r.number()
	flags := r.byte()
	s.KeysOnly, q.traced = flags&flagKeysOnly != 0, flags&flagTraced != 0
	s.Detail, s.Aspect = model.Detail(flags>>detailShift&3), model.Aspect(flags>>aspectShift&7)
	if flags&flagHistograms != 0 {
		s.Histograms = model.Histograms(r.byte())
	}
	q.limit = r.number()
	q.text = string(r.bytes())
	for range r.count(1) {
		set := []model.TagFilter{}
		for range r.count(3) {
			f := model.TagFilter{Op: model.FilterOp(r.byte()), Name: string(r.bytes()), Value: string(r.bytes())}
			if f.Op > model.NotRegexp {
				return nil, errkind.New(errkind.Unsupported, "cannot evaluate filter with operator %d: this node is older than the one asking", f.Op)
			}
			set = append(set, f)
		}
		s.Filters = append(s.Filters, set)
	}
	if q.method == methodReduce {
		r.fragment(q)
	}
	if r.err != nil && errkind.Of(r.err) != errkind.Corrupt {
		return nil, r.err
	}
	if err := r.end("query"); err != nil {
		return nil, err
	}
	if s.Detail > model.NewestKind || s.Aspect > model.AspectMean || s.Histograms > model.HistogramParts || q.method == 0 || q.method >= methods {
		return nil, errkind.New(errkind.Unsupported, "cannot answer request %d with flags %#x: this node is older than the one asking", q.method, flags)
	}
	return q, nil
}

// appendCoverage appends the last frame of an answer: a flag, then the nodes
// which failed and why. A whole answer ends with nothing.
func appendCoverage(dst []byte, c storageapi.Coverage) []byte {
	if !c.Partial && len(c.Failed) == 0 {
		return dst
	}
	partial := byte(0)
	if c.Partial {
		partial = 1
	}
	dst = append(dst, partial)
	dst = codec.AppendUvarint(dst, uint64(len(c.Failed)))
	for _, f := range c.Failed {
		dst = appendText(dst, f.Node)
		dst = codec.AppendBytes(dst, transport.AppendError(nil, f.Err))
	}
	return dst
}

func parseCoverage(src []byte) (storageapi.Coverage, error) {
	var c storageapi.Coverage
	if len(src) == 0 {
		return c, nil
	}
	r := &reader{src: src}
	c.Partial = r.byte() != 0
	for range r.count(2) {
		node := string(r.bytes())
		c.Failed = append(c.Failed, storageapi.NodeFailure{Node: node, Err: transport.ParseError(r.bytes())})
	}
	return c, r.end("coverage")
}
