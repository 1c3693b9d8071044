package selectrpc

import (
	"context"
	"math"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
	"vmcluster/lib/tsblock"
)

var _ storageapi.Reducer = (*Client)(nil)

// The kinds of items in the answer to a fragment. Their numbers are part of the protocol.
const (
	reducedFigures      = 1
	reducedFingerprints = 2
	reducedGroup        = 3
	reducedSeries       = 4
)

const (
	fragmentKeepName = 1 << 0
	fragmentMarkers  = 1 << 1
	fragmentSeveral  = 1 << 2
	fragmentFlags    = fragmentKeepName | fragmentMarkers | fragmentSeveral
)

// maxFragmentPoints bounds what a request can make a node allocate per group before its memory is reserved.
const maxFragmentPoints = 1 << 20

func appendFragment(dst []byte, q *query) []byte {
	f := q.fragment
	dst = appendText(dst, f.Function)
	dst = appendTexts(dst, f.Texts)
	for _, n := range []int64{f.Start, f.End, f.Step, f.Window, f.Lookback, f.MinStaleness, f.DedupIntervalMs} {
		dst = codec.AppendVarint(dst, n)
	}
	flags := byte(0)
	if f.KeepName {
		flags |= fragmentKeepName
	}
	if f.KeepStaleMarkers {
		flags |= fragmentMarkers
	}
	if q.several {
		flags |= fragmentSeveral
	}
	dst = append(dst, flags)
	dst = appendText(dst, f.Aggregate)
	dst = append(dst, byte(f.Grouping))
	dst = appendTexts(dst, f.Labels)
	dst = codec.AppendUvarint(dst, uint64(max(0, f.MaxSamples)))
	dst = codec.AppendUvarint(dst, uint64(max(0, f.MaxSamplesPerSeries)))
	dst = codec.AppendUvarint(dst, uint64(len(f.Args)))
	var columns columnWriter
	for _, arg := range f.Args {
		dst = columns.appendColumn(dst, arg)
	}
	return appendFingerprints(dst, f.Exclude)
}

func (r *reader) fragment(q *query) {
	f := &fragment.Fragment{Search: q.search, Function: string(r.bytes()), Texts: r.texts()}
	q.fragment = f
	for _, n := range []*int64{&f.Start, &f.End, &f.Step, &f.Window, &f.Lookback, &f.MinStaleness, &f.DedupIntervalMs} {
		*n = r.varint()
	}
	flags := r.byte()
	f.KeepName, f.KeepStaleMarkers, q.several = flags&fragmentKeepName != 0, flags&fragmentMarkers != 0, flags&fragmentSeveral != 0
	f.Aggregate, f.Grouping, f.Labels = string(r.bytes()), fragment.Grouping(r.byte()), r.texts()
	f.MaxSamples, f.MaxSamplesPerSeries = r.int(), r.int()
	if r.err == nil && (flags&^fragmentFlags != 0 || f.Grouping > fragment.GroupWithout) {
		r.fail(errkind.New(errkind.Unsupported, "cannot evaluate a fragment with flags %#x and grouping %d: this node is older than the one asking", flags, f.Grouping))
	}
	if r.err == nil && (f.Step <= 0 || f.End < f.Start || f.Window < 0 || (f.End-f.Start)/f.Step >= maxFragmentPoints || f.Start < -farthest || f.End > farthest) {
		r.fail(errkind.New(errkind.BadRequest, "cannot evaluate a fragment from %d to %d with step %d and window %d: at most %d points are supported", f.Start, f.End, f.Step, f.Window, maxFragmentPoints))
	}
	for range r.count(2) {
		f.Args = append(f.Args, r.column(f.Points()))
	}
	f.Exclude = r.fingerprints(nil)
}

// farthest bounds times, so that sums of them do not overflow.
const farthest = math.MaxInt64 / 8

// int reads a number of things.
func (r *reader) int() int { return int(min(r.uvarint(), math.MaxInt)) }

func appendTexts(dst []byte, texts []string) []byte {
	dst = codec.AppendUvarint(dst, uint64(len(texts)))
	for _, s := range texts {
		dst = appendText(dst, s)
	}
	return dst
}

func (r *reader) texts() []string {
	var out []string
	for range r.count(1) {
		out = append(out, string(r.bytes()))
	}
	return out
}

// columnWriter writes values in columns of the codec, each with its length in bytes.
type columnWriter struct {
	encoder codec.Encoder
	buf     []byte
}

func (w *columnWriter) appendColumn(dst []byte, values []float64) []byte {
	for len(values) > 0 {
		n := min(len(values), codec.MaxColumnLen)
		w.buf = w.encoder.AppendValuesQuick(w.buf[:0], values[:n])
		dst = codec.AppendBytes(dst, w.buf)
		values = values[n:]
	}
	return dst
}

// column reads n values.
func (r *reader) column(n int) []float64 {
	var out []float64
	for len(out) < n && r.err == nil {
		var err error
		src := r.bytes()
		if out, err = codec.DecodeValues(out, src, min(n-len(out), codec.MaxColumnLen)); err != nil {
			r.fail(err)
		}
	}
	return out
}

// appendFingerprints appends ascending fingerprints by their distances.
func appendFingerprints(dst []byte, list []uint32) []byte {
	dst = codec.AppendUvarint(dst, uint64(len(list)))
	last := uint32(0)
	for _, x := range list {
		dst = codec.AppendUvarint(dst, uint64(x-last))
		last = x
	}
	return dst
}

func (r *reader) fingerprints(dst []uint32) []uint32 {
	last := uint64(0)
	for range r.count(1) {
		last += r.uvarint()
		if last > math.MaxUint32 {
			r.fail(errkind.New(errkind.Corrupt, "a fingerprint is larger than 32 bits"))
			return nil
		}
		dst = append(dst, uint32(last))
	}
	return dst
}

// sendReduced answers a fragment. An answer without figures says that the series have to be read.
func (c *call) sendReduced(ctx context.Context, out *transport.Responder) (storageapi.Coverage, error) {
	w := itemWriter{out: out}
	cov, err := c.reduce(ctx, &w)
	if err != nil {
		return cov, err
	}
	w.flush()
	return cov, w.err
}

func (c *call) reduce(ctx context.Context, w *itemWriter) (storageapi.Coverage, error) {
	reducer := c.server.opts.Reducer
	if reducer == nil {
		return storageapi.Coverage{}, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", c.query.method)
	}
	reduction, err := reducer.Reduce(ctx, c.query.fragment)
	switch n := len(reduction.Results); {
	case err != nil:
		return reduction.Coverage, err
	case n == 0 && reduction.ForNow:
		return storageapi.Coverage{}, errkind.New(errkind.Unsupported, "cannot evaluate a part of a query for the time being: %s", reduction.Declined)
	case n > 1 && !c.query.several:
		return storageapi.Coverage{}, errkind.New(errkind.Unsupported, "cannot answer with the results of %d storage nodes: the one asking is older than this node", n)
	}
	for _, res := range reduction.Results {
		c.server.seriesRead.Add(res.SeriesRead)
		c.server.rowsRead.Add(res.SamplesRead)
		w.result(res)
	}
	return reduction.Coverage, nil
}

// result adds what a fragment has come to in one store.
func (w *itemWriter) result(res *fragment.Result) {
	w.buf = append(w.buf, reducedFigures)
	w.buf = codec.AppendUvarint(w.buf, uint64(res.SeriesRead))
	w.buf = codec.AppendUvarint(w.buf, uint64(res.SamplesRead))
	for rest := res.Fingerprints; len(rest) > 0; {
		n := min(len(rest), frameTarget/4)
		w.buf = appendFingerprints(append(w.buf, reducedFingerprints), rest[:n])
		rest = rest[n:]
		w.sendFull()
	}
	var columns columnWriter
	for i := range res.Groups {
		w.buf = columns.appendGroup(append(w.buf, reducedGroup), &res.Groups[i])
		w.sendFull()
	}
	for i := range res.Excluded {
		w.series(&res.Excluded[i])
	}
}

func (w *columnWriter) appendGroup(dst []byte, g *fragment.Group) []byte {
	dst = codec.AppendBytes(dst, g.First)
	dst = appendText(dst, g.Name)
	dst = codec.AppendUvarint(dst, uint64(len(g.Labels)))
	for _, l := range g.Labels {
		dst = appendText(dst, l.Name)
		dst = appendText(dst, l.Value)
	}
	dst = w.appendColumn(dst, g.Counts)
	dst = w.appendColumn(dst, g.Values)
	if len(g.Rests) == 0 {
		return append(dst, 0)
	}
	return w.appendColumn(append(dst, 1), g.Rests)
}

func (r *reader) group(points int) fragment.Group {
	g := fragment.Group{First: append([]byte(nil), r.bytes()...), Name: string(r.bytes())}
	for range r.count(2) {
		g.Labels = append(g.Labels, model.Label{Name: string(r.bytes()), Value: string(r.bytes())})
	}
	g.Counts, g.Values = r.column(points), r.column(points)
	if r.byte() != 0 {
		g.Rests = r.column(points)
	}
	return g
}

// series adds a series as it is stored, in several items if it is long.
func (w *itemWriter) series(s *fragment.Series) {
	for blocks := s.Blocks; ; {
		n, size := 0, 0
		for n < len(blocks) && size < frameTarget {
			size += len(blocks[n].Timestamps) + len(blocks[n].Values)
			n++
		}
		w.buf = codec.AppendBytes(append(w.buf, reducedSeries), s.Key)
		w.buf = codec.AppendUvarint(w.buf, uint64(n))
		for i := range blocks[:n] {
			w.buf = blocks[i].AppendTo(w.buf)
		}
		w.sendFull()
		if blocks = blocks[n:]; len(blocks) == 0 {
			return
		}
	}
}

// excluded adds a series to the result. Nothing in it aliases the frame.
func (r *reader) excluded(res *fragment.Result) {
	key := r.bytes()
	last := len(res.Excluded) - 1
	if last < 0 || string(res.Excluded[last].Key) != string(key) {
		res.Excluded = append(res.Excluded, fragment.Series{Key: append([]byte(nil), key...)})
		last++
	}
	s := &res.Excluded[last]
	for range r.count(4) { // the shortest block takes more than 4 bytes
		var b tsblock.Block
		tail, err := tsblock.UnmarshalBlock(r.src, &b)
		if err != nil {
			r.fail(err)
			return
		}
		r.src = tail
		b.Timestamps, b.Values = append([]byte(nil), b.Timestamps...), append([]byte(nil), b.Values...)
		s.Blocks = append(s.Blocks, b)
	}
}

// parseReduced adds the items of a frame to the results, of which each begins with its figures.
func parseReduced(list []*fragment.Result, points int, src []byte) ([]*fragment.Result, error) {
	r := &reader{src: src}
	for len(r.src) > 0 {
		kind := r.byte()
		if kind == reducedFigures {
			list = append(list, &fragment.Result{SeriesRead: r.int(), SamplesRead: r.int()})
			continue
		}
		var res *fragment.Result
		if len(list) == 0 {
			kind = 0
		} else {
			res = list[len(list)-1]
		}
		switch kind {
		case reducedFingerprints:
			res.Fingerprints = r.fingerprints(res.Fingerprints)
		case reducedGroup:
			res.Groups = append(res.Groups, r.group(points))
		case reducedSeries:
			r.excluded(res)
		default:
			r.fail(errkind.New(errkind.Corrupt, "there is no item of kind %d here", kind))
		}
	}
	return list, r.end("the answer to a fragment")
}

// Reduce asks the node to evaluate a fragment.
func (c *Client) Reduce(ctx context.Context, f *fragment.Fragment) (out storageapi.Reduction, err error) {
	request := &query{method: methodReduce, search: f.Search, fragment: f, several: c.transport.Capabilities()&transport.CapabilityResults != 0}
	out.Coverage, err = c.call(ctx, request, func(frame []byte) (err error) {
		out.Results, err = parseReduced(out.Results, f.Points(), frame)
		return err
	})
	if err != nil {
		return storageapi.Reduction{}, err
	}
	return out, nil
}
