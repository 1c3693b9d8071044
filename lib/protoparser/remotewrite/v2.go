package remotewrite

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"

	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
)

// table is a request of remote write 2.0 with the symbols its labels refer to. It is the format of its own series, since references mean
// something else in each request. What identifies a series in all of them is the hashes of its symbols.
type table struct {
	parser   *Parser
	decoder  prompb.DecoderV2
	hashes   [2][]uint64           // of the symbols, with two secret seeds, so that neither chance nor an attacker makes two of them alike
	labels   []model.Label         // scratch
	scratch  sync.Pool             // *labelScratch
	last     []byte                // description of a metric which was handed on last
	metadata *protoparser.Metadata // nil: nobody wants it

	histograms histograms
	exemplars  exemplars
}

// keptHashes is how many a table in the pool may have room for.
const keptHashes = 1 << 17

type labelScratch struct {
	refs   []uint32
	labels []model.Label
}

// isV1 reports whether a body begins like a message of 1.0: some senders name the other one.
func isV1(body []byte) bool {
	const series, metadata = 1<<3 | 2, 3<<3 | 2
	return len(body) > 0 && (body[0] == series || body[0] == metadata)
}

// parseTable stores all samples of a request of remote write 2.0.
func (p *Parser) parseTable(body []byte, req *protoparser.Request) (protoparser.Result, error) {
	t, ok := p.tables.Get().(*table)
	if !ok {
		t = &table{parser: p, histograms: p.newHistograms()}
	}
	t.begin(body)
	defer t.end()
	if req.Metadata != nil {
		t.metadata = p.intake.Metadata(req)
	}
	t.exemplars.to = p.intake.Exemplars(req, p.counters.Exemplars)
	return t.collect(body, req)
}

func (t *table) begin(body []byte) {
	t.decoder.Reset(body)
	t.hashSymbols(0)
}

// hashSymbols makes the hashes for one half of identities. The second half is needed only for series which do not come where they came the last time.
func (t *table) hashSymbols(half int) {
	hashes, seed := t.hashes[half], t.parser.seeds[half]
	for i := range t.decoder.Symbols() {
		hashes = append(hashes, maphash.String(seed, t.decoder.Symbol(uint32(i))))
	}
	t.hashes[half] = hashes
}

func (t *table) end() {
	t.decoder.Reset(nil)
	clear(t.labels[:cap(t.labels)])
	for half := range t.hashes {
		t.hashes[half] = t.hashes[half][:0]
	}
	t.metadata, t.last, t.labels = nil, nil, t.labels[:0]
	t.exemplars = exemplars{}
	if cap(t.hashes[0]) <= keptHashes {
		t.parser.tables.Put(t)
	}
}

func (t *table) collect(body []byte, req *protoparser.Request) (protoparser.Result, error) {
	p, d := t.parser, &t.decoder
	c := p.intake.CollectRaw(req, t, body)
	defer c.Release()
	rows := 0
	for c.Err() == nil && d.Next() {
		samples := d.Samples()
		rows += len(samples) + d.Histograms()
		if t.metadata != nil && !bytes.Equal(d.RawMetadata(), t.last) {
			t.describe()
		}
		if d.Exemplars() > 0 && t.exemplars.to != nil {
			t.collectExemplars()
		}
		if d.Histograms() > 0 {
			t.collectHistograms(c, body)
			continue
		}
		if !t.start(c, body, len(samples)) {
			continue
		}
		for i := range samples {
			if c.IsRecent(samples[i].Start, samples[i].Timestamp) {
				t.began(c, &samples[i])
			}
			c.Sample(samples[i].Timestamp, samples[i].Value)
		}
	}
	p.counters.RowsRead.Add(rows)
	err := d.Err()
	if err != nil {
		p.counters.UnmarshalErrors.Inc()
		p.counters.RowsInvalid.Inc()
		return c.Result(), err
	}
	result, err := c.Finish()
	if t.metadata != nil { // samples come first
		t.metadata.Flush()
	}
	result.Exemplars = t.exemplars.to.Flush()
	return result, err
}

// began notes when the counter began of which a sample is about to be collected. Of gauges, senders have nothing to say; of a summary, the count and the sum
// begin at 0, its quantiles do not.
func (t *table) began(c *protoparser.Collector, s *prompb.Sample) {
	switch model.MetricType(min(t.decoder.Metadata().Type, 255)) {
	case model.TypeUnknown, model.TypeCounter, model.TypeHistogram:
	case model.TypeSummary:
		if !t.isCounterOfSummary() {
			return
		}
	default:
		return
	}
	c.Began(s.Start, s.Timestamp)
}

// isCounterOfSummary reports whether the current series, of a summary, is its count or sum.
func (t *table) isCounterOfSummary() bool {
	refs, ok := t.decoder.Refs()
	if !ok || t.check(refs) != "" {
		return false
	}
	for i := 0; i < len(refs); i += 2 {
		if t.decoder.Symbol(refs[i]) == model.MetricNameLabel {
			name := t.decoder.Symbol(refs[i+1])
			return strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum")
		}
	}
	return false
}

// collectHistograms collects the current series, which has native histograms.
func (t *table) collectHistograms(c *protoparser.Collector, body []byte) {
	x := &t.histograms
	defer x.done()
	samples := t.decoder.Samples()
	taken := x.take(c, &t.decoder)
	// Without rows, start looks at the references only.
	if t.start(c, body, len(samples)+taken) {
		for i := range samples {
			c.Sample(samples[i].Timestamp, samples[i].Value)
		}
		if taken > 0 {
			x.add(c)
		}
	}
	if x.mode != protoparser.RangeHistograms {
		return
	}
	if refs, ok := t.decoder.Refs(); ok && t.check(refs) == "" {
		t.labels = t.appendLabels(t.labels[:0], refs)
		x.convert(c, t.labels)
	}
}

// start begins the current series with so many rows; false when it is left out.
func (t *table) start(c *protoparser.Collector, body []byte, rows int) bool {
	start, end := t.decoder.Raw()
	raw := body[start:end]
	if half, ok := t.identify(raw, 0); ok && rows > 0 {
		if c.StartExpectedAs(half, raw, start) {
			return true
		}
		other, _ := t.identify(raw, 1)
		if !c.Dropped() && c.StartAs([2]uint64{half, other}, raw, start, rows) {
			return true
		}
		if c.Dropped() {
			return false
		}
	} else {
		c.StartAs([2]uint64{}, nil, 0, rows) // it gets no number
	}
	refs, ok := t.decoder.Refs()
	if !ok {
		return false
	}
	if wrong := t.check(refs); wrong != "" {
		t.parser.counters.RowsInvalid.Add(max(1, rows))
		for range max(1, rows) {
			c.Invalid(wrong)
		}
		return false
	}
	t.labels = t.appendLabels(t.labels[:0], refs)
	return c.StartNew(t.labels, rows)
}

// identify makes half of the identity of the series with the given raw references; false when they refer to what is not there. It is the
// sum of a product for each label, whose factors are the hashes of name and value, which nobody outside knows: labels in another order
// are the same series, and name and value are not exchangeable. The product of two is what NH sums (Black et al., UMAC, 1999).
func (t *table) identify(raw []byte, half int) (sum uint64, ok bool) {
	const notName, notValue = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	if half > 0 && len(t.hashes[half]) == 0 {
		t.hashSymbols(half)
	}
	hashes := t.hashes[half]
	name, n := uint64(0), 0
	for p := 0; p < len(raw); n++ {
		ref := uint32(raw[p])
		if ref < 0x80 {
			p++
		} else {
			ref, p = prompb.NextRef(raw, p)
		}
		if int(ref) >= len(hashes) {
			return 0, false
		}
		if n%2 == 0 {
			name = hashes[ref] + notName
			continue
		}
		high, low := bits.Mul64(name, hashes[ref]^notValue)
		sum += high ^ low
	}
	return sum, n > 0 && n%2 == 0
}

// check says what is wrong with the references of a series, if anything is.
func (t *table) check(refs []uint32) (wrong string) {
	if len(refs)%2 != 0 {
		return fmt.Sprintf("a series has %d references to symbols, which are not pairs of names and values", len(refs))
	}
	for _, ref := range refs {
		if int(ref) >= t.decoder.Symbols() {
			return fmt.Sprintf("a series refers to symbol %d, and the request has %d", ref, t.decoder.Symbols())
		}
	}
	return ""
}

// appendLabels appends the labels of references which have been checked.
func (t *table) appendLabels(dst []model.Label, refs []uint32) []model.Label {
	for i := 0; i+1 < len(refs); i += 2 {
		dst = append(dst, model.Label{Name: t.decoder.Symbol(refs[i]), Value: t.decoder.Symbol(refs[i+1])})
	}
	return dst
}

// Name implements protoparser.Format. It is not the name of version 1.0, whose series are recognised by other bytes.
func (t *table) Name() string { return Format + "2" }

// UseLabels implements protoparser.Format.
func (t *table) UseLabels(raw []byte, use func([]model.Label)) {
	x, ok := t.scratch.Get().(*labelScratch)
	if !ok {
		x = &labelScratch{}
	}
	x.refs = x.refs[:0]
	for p := 0; p < len(raw); {
		var ref uint32
		ref, p = prompb.NextRef(raw, p)
		x.refs = append(x.refs, ref)
	}
	x.labels = t.appendLabels(x.labels[:0], x.refs)
	use(x.labels)
	clear(x.labels)
	t.scratch.Put(x)
}

// describe hands on what the current series says of its metric. Series of a metric come one after the other and say the same.
func (t *table) describe() {
	t.last = t.decoder.RawMetadata()
	m := t.decoder.Metadata()
	refs, ok := t.decoder.Refs()
	if m == (prompb.MetadataV2{}) || int(m.Help) >= t.decoder.Symbols() || int(m.Unit) >= t.decoder.Symbols() || !ok || t.check(refs) != "" {
		return
	}
	t.parser.counters.Metadata.Inc()
	for i := 0; i < len(refs); i += 2 {
		if t.decoder.Symbol(refs[i]) == model.MetricNameLabel {
			kind := model.MetricType(min(m.Type, 255))
			t.metadata.Add(family(t.decoder.Symbol(refs[i+1]), kind), kind, t.decoder.Symbol(m.Unit), t.decoder.Symbol(m.Help))
		}
	}
}

// family returns the name that metadata of remote write 1.0 has for the metric of a series.
func family(name string, t model.MetricType) string {
	switch t {
	case model.TypeHistogram, model.TypeGaugeHistogram, model.TypeSummary:
		for _, suffix := range [...]string{"_bucket", "_count", "_sum"} {
			if short, ok := strings.CutSuffix(name, suffix); ok && short != "" {
				return short
			}
		}
	}
	return name
}
