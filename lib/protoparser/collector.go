package protoparser

import (
	"fmt"
	"math"
	"strconv"

	"vmcluster/lib/model"
)

// A batch is handed to the sink when it has this many rows or bytes of labels.
const (
	maxBatchRows       = 10_000
	maxBatchLabelBytes = 4 << 20
	// or this many of native histograms.
	maxBatchHistogramBytes = 4 << 20
	// A batch which has grown beyond this many bytes is not kept for reuse.
	maxPooledBatch = 16 << 20
	// Storage takes no longer series keys, whatever the configured limits are. One that is too long must not
	// cost the sender the rest of its request.
	maxSeriesKeyBytes = 1 << 20
)

// Collector gathers the series of one request in batches, applies extra labels and
// limits, and hands full batches to the sink. A request uses it from one goroutine:
//
//	c := intake.Collect(req)
//	defer c.Release()
//	if c.StartSeries(labels, rows) { c.Sample(timestamp, value) ... }
//	return c.Finish()
//
// A format whose series can be recognised by the bytes of their labels gets a collector of CollectRaw and
// decodes labels only when StartRaw does not know them:
//
//	if c.StartRaw(raw, at, rows) || !c.Dropped() && c.StartNew(decode(raw), rows) { c.Sample(timestamp, value) ... }
type Collector struct {
	intake     *Intake
	req        *Request
	batch      model.Batch
	labels     []model.Label // scratch: labels with the request's own, relabelled
	relabel    Relabeling    // of the batch; nil: none
	dropped    int           // series which relabelling has dropped
	key        []byte        // scratch: key of a series split over batches
	labelBytes int
	result     Result
	nulls      int
	err        error
	raw        rawCollector
	starts     []model.Start // of series of the batch
}

// Collect returns a collector for the request.
func (in *Intake) Collect(req *Request) *Collector {
	c, ok := in.collectors.Get().(*Collector)
	if !ok {
		c = &Collector{intake: in}
	}
	c.req = req
	return c
}

// Release gives the collector back. Rows which were not flushed are dropped.
func (c *Collector) Release() {
	c.endNumbers()
	if c.nulls > 0 {
		c.intake.Ignore(NullValue, c.nulls)
	}
	c.intake.relabelDropped.Add(c.dropped)
	if c.batch.Size() > maxPooledBatch {
		return
	}
	c.batch.Reset()
	c.raw.reset()
	c.starts = nil
	clear(c.labels)
	c.labels = c.labels[:0]
	c.req, c.relabel, c.labelBytes, c.dropped, c.result, c.nulls, c.err = nil, nil, 0, 0, Result{}, 0, nil
	c.intake.collectors.Put(c)
}

// Finish flushes the rest. The result holds also what was stored before an error.
func (c *Collector) Finish() (Result, error) {
	c.flush()
	return c.Result(), c.err
}

// Result returns what became of the request so far.
func (c *Collector) Result() Result {
	r := c.result
	r.Dropped += c.nulls
	if r.Reason == "" && c.nulls > 0 {
		r.Reason = "the value is null, which says that there is no value"
	}
	return r
}

// Err returns the error of the sink, after which nothing more is collected.
func (c *Collector) Err() error { return c.err }

// Invalid notes a line or series which could not be parsed.
func (c *Collector) Invalid(reason string) {
	c.result.Invalid++
	if c.result.Reason == "" {
		c.result.Reason = reason
	}
}

// StartSeries begins a series of the given number of samples. It returns false when
// the series must be left out, which it has then counted, or when the sink has failed. The labels are
// reordered and their strings copied.
func (c *Collector) StartSeries(labels []model.Label, rows int) bool {
	if rows == 0 || !c.makeRoom() {
		return false
	}
	var kept bool
	if labels, c.labels, kept = c.req.change(labels, c.labels, c.relabel); !kept {
		c.drops()
		return false
	}
	if c.req.TenantFromLabels {
		c.warnOddTenant(labels)
	}
	tenant, labels := c.req.tenantOf(labels)
	if c.intake.config.PromNaming {
		promNames(labels)
	}
	if r, detail := c.check(labels); r != reasonCount {
		c.drop(r, rows, detail, labels)
		return false
	}
	if err := c.batch.AddSeries(tenant, labels); err != nil {
		c.drop(DuplicateLabelName, rows, err.Error(), labels)
		return false
	}
	return true
}

// drops notes that relabelling drops the series asked about last.
func (c *Collector) drops() {
	c.dropped++
	c.raw.dropped = true
}

// warnOddTenant logs that a series, which is not known yet, names a tenant that cannot be.
func (c *Collector) warnOddTenant(labels []model.Label) {
	for _, l := range labels {
		if l.Name != model.AccountLabel && l.Name != model.ProjectLabel || l.Value == "" {
			continue
		}
		if _, err := strconv.ParseUint(l.Value, 10, 32); err != nil {
			c.intake.Warnf("series %s has no number in 0..4294967295 as %s, which counts as 0; its samples go to another tenant than its sender may think", describe(labels), l.Name)
		}
	}
}

// makeRoom gets the batch ready for one more series; false when the sink has failed.
func (c *Collector) makeRoom() bool {
	if c.batch.Rows() >= maxBatchRows || c.batch.Len() >= maxBatchRows || c.labelBytes >= maxBatchLabelBytes || len(c.raw.text) >= maxBatchLabelBytes ||
		c.batch.HistogramBytes() >= maxBatchHistogramBytes {
		c.flush()
	}
	if c.err == nil && c.batch.Len() == 0 {
		c.beginNumbers()
	}
	return c.err == nil
}

// Null notes a sample without a value, which is left out.
func (c *Collector) Null() { c.nulls++ }

// Sample adds a sample to the series begun last. NaN is a value like any other.
func (c *Collector) Sample(timestamp int64, value float64) {
	if c.batch.Rows() >= maxBatchRows {
		c.splitSeries()
	}
	if c.err == nil {
		c.batch.AddSample(timestamp, value)
	}
}

// Histogram adds a copy of the payload of a native histogram to the series begun last.
func (c *Collector) Histogram(timestamp int64, payload []byte) {
	if c.batch.Rows() >= maxBatchRows || c.batch.HistogramBytes() >= maxBatchHistogramBytes {
		c.splitSeries()
	}
	if c.err == nil {
		c.batch.AddHistogram(timestamp, payload)
	}
}

// Converted notes a native histogram which is stored as samples.
func (c *Collector) Converted() { c.result.Converted++ }

// splitSeries flushes in the middle of a series and goes on with the same one.
func (c *Collector) splitSeries() {
	last := c.batch.Len() - 1
	hash, number, space := c.batch.Hash(last), c.batch.Number(last), c.batch.Space()
	c.key = append(c.key[:0], c.batch.Key(last)...)
	if c.flush(); c.err != nil {
		return
	}
	c.beginNumbers()
	c.batch.AddKey(c.key, hash)
	if number != model.NoNumber && c.batch.Space() == space {
		c.batch.SetNumber(number)
	}
}

func (c *Collector) flush() {
	rows := c.batch.Rows()
	c.tellStarts()
	if c.err == nil && rows > 0 {
		c.err = c.req.Sink(&c.batch)
		if c.err == nil {
			c.result.Rows += rows
			c.result.Histograms += c.batch.HistogramRows()
		}
	}
	c.batch.Reset()
	c.labelBytes = 0
	c.endNumbers()
}

// check returns the first limit or rule the labels break, or reasonCount. It does not
// look for duplicates, which show when the labels are sorted.
func (c *Collector) check(labels []model.Label) (r Reason, detail string) {
	maxName, maxValue := limit(c.intake.config.MaxLabelNameLen), limit(c.intake.config.MaxLabelValueLen)
	n, hasMetric, size := 0, false, keyOverhead
	for i := range labels {
		l := &labels[i]
		if l.Value == "" {
			continue
		}
		n++
		c.labelBytes += len(l.Name) + len(l.Value)
		size += len(l.Name) + len(l.Value) + labelOverhead
		switch {
		case l.Name == "":
			return EmptyLabelName, fmt.Sprintf("the label with the value %q has an empty name", l.Value)
		case len(l.Name) > maxName:
			return TooLongLabelName, fmt.Sprintf("the label name %q has %d bytes, more than -maxLabelNameLen=%d", cut(l.Name), len(l.Name), maxName)
		case len(l.Value) > maxValue:
			return TooLongLabelValue, fmt.Sprintf("the value of label %q has %d bytes, more than -maxLabelValueLen=%d", l.Name, len(l.Value), maxValue)
		case l.Name == model.MetricNameLabel:
			hasMetric = true
		}
	}
	if !hasMetric {
		return EmptyMetricName, "the metric name is empty"
	}
	if most := limit(c.intake.config.MaxLabelsPerSeries); n > most {
		return TooManyLabels, fmt.Sprintf("it has %d labels, more than -maxLabelsPerTimeseries=%d", n, most)
	}
	if size > maxSeriesKeyBytes {
		return TooLongLabelValue, fmt.Sprintf("its labels have %d bytes together, more than %d", size, maxSeriesKeyBytes)
	}
	return reasonCount, ""
}

// What a key and each of its labels take besides the texts, at most.
const (
	keyOverhead   = 16
	labelOverhead = 8
)

func limit(n int) int {
	if n <= 0 {
		return math.MaxInt
	}
	return n
}

// Admits reports whether the limits allow a series of the given number of samples, and does not begin it. What is left out it has then counted.
func (c *Collector) Admits(labels []model.Label, rows int) bool {
	r, detail := c.check(labels)
	if r != reasonCount {
		c.drop(r, rows, detail, labels)
	}
	return r == reasonCount
}

// drop counts a series which is left out and says why.
func (c *Collector) drop(r Reason, rows int, detail string, labels []model.Label) {
	c.intake.Ignore(r, rows)
	c.result.Dropped += rows
	if c.result.Reason == "" {
		c.result.Reason = detail
	}
	c.intake.Warnf("cannot store series %s: %s; its %d samples are dropped and counted in vm_rows_ignored_total{reason=%q}",
		describe(labels), detail, rows, r.String())
}

// describe renders labels of any size as a text of bounded size.
func describe(labels []model.Label) string {
	const most = 10
	few := make([]model.Label, 0, most)
	for _, l := range labels[:min(len(labels), most)] {
		few = append(few, model.Label{Name: cut(l.Name), Value: cut(l.Value)})
	}
	text := model.LabelsString(few)
	if more := len(labels) - len(few); more > 0 {
		text += fmt.Sprintf(" and %d more labels", more)
	}
	return text
}

func cut(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// change returns the labels of a series with those of the request, relabelled; false when the series is dropped. Scratch is used
// for the labels when they are changed.
func (req *Request) change(labels, scratch []model.Label, relabel Relabeling) (changed, rest []model.Label, kept bool) {
	if len(req.ExtraLabels) == 0 && relabel == nil {
		return labels, scratch, true
	}
	scratch = scratch[:0]
	for _, l := range labels {
		if !hasName(req.ExtraLabels, l.Name) {
			scratch = append(scratch, l)
		}
	}
	scratch, kept = append(scratch, req.ExtraLabels...), true
	if relabel != nil {
		scratch, kept = relabel(scratch)
	}
	return scratch, scratch, kept
}

// tenantOf returns the tenant of a series and its labels without those that name it.
func (req *Request) tenantOf(labels []model.Label) (t model.TenantID, rest []model.Label) {
	if !req.TenantFromLabels {
		return req.Tenant, labels
	}
	return cutTenant(labels)
}

func hasName(labels []model.Label, name string) bool {
	for i := range labels {
		if labels[i].Name == name {
			return true
		}
	}
	return false
}

// cutTenant splits the labels that name the tenant off the others.
func cutTenant(labels []model.Label) (t model.TenantID, rest []model.Label) {
	rest = labels[:0]
	for _, l := range labels {
		switch l.Name {
		case model.AccountLabel:
			t.AccountID = tenantPart(l.Value)
		case model.ProjectLabel:
			t.ProjectID = tenantPart(l.Value)
		default:
			rest = append(rest, l)
		}
	}
	return t, rest
}

func tenantPart(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
