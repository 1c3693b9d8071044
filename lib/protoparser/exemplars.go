package protoparser

import (
	"fmt"
	"slices"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// maxExemplarBatch is how many exemplars are handed on at a time.
const maxExemplarBatch = 1000

// ExemplarCounters are the metrics of the exemplars of one wire format.
type ExemplarCounters struct{ Read, Invalid *metrics.Counter }

// NewExemplarCounters registers the metrics of the format with the given value of the type label.
func (in *Intake) NewExemplarCounters(format string) *ExemplarCounters {
	return &ExemplarCounters{
		Read:    in.metrics.Counter(fmt.Sprintf("vm_protoparser_exemplars_read_total{type=%q}", format)),
		Invalid: in.metrics.Counter(fmt.Sprintf("vm_exemplars_invalid_total{type=%q}", format)),
	}
}

// Exemplars gathers the exemplars of a request. A request uses it from one goroutine, and calls Flush in the end:
//
//	if x.Series(labels) { x.Add(labels, timestamp, value) ... }
type Exemplars struct {
	intake *Intake
	req    *Request
	counts *ExemplarCounters
	keys   *SeriesKeys
	series []byte // key of the series begun last
	list   []model.Exemplar
	stored int
}

// Exemplars returns a place for the exemplars of a request whose field Exemplars is set; nil, at which nothing must be called, when nobody wants them.
func (in *Intake) Exemplars(req *Request, counts *ExemplarCounters) *Exemplars {
	if req.Exemplars == nil {
		return nil
	}
	return &Exemplars{intake: in, req: req, counts: counts, keys: in.SeriesKeys(req)}
}

// Series begins the exemplars of a series, whose labels are changed and checked as those of its samples are. It returns false when the series is left out. The
// labels are reordered and their strings copied.
func (x *Exemplars) Series(labels []model.Label) (ok bool) {
	x.series, ok = x.keys.Of(labels)
	return ok
}

// Add takes an exemplar of the series begun last. What is wrong with one is counted and concerns nothing else. The labels are reordered and their strings copied.
func (x *Exemplars) Add(labels []model.Label, timestamp int64, value float64) {
	encoded, err := model.AppendExemplarLabels(nil, labels)
	if err != nil {
		x.Invalid(err)
		return
	}
	x.AddEncoded(encoded, timestamp, value)
}

// Invalid counts an exemplar of the series begun last which makes no sense.
func (x *Exemplars) Invalid(err error) {
	x.counts.Invalid.Inc()
	x.intake.Warnf("%s; it is left out and counted in vm_exemplars_invalid_total, its series is %s", err, model.SeriesKeyString(x.series))
}

// AddEncoded is Add with labels in their canonical form, which are not copied.
func (x *Exemplars) AddEncoded(labels []byte, timestamp int64, value float64) {
	x.list = append(x.list, model.Exemplar{Series: x.series, Labels: labels, Timestamp: timestamp, Value: value})
	if len(x.list) >= maxExemplarBatch {
		x.Flush()
	}
}

// Flush hands on what was taken and returns how many exemplars have been stored so far. A failure is counted and does not concern samples.
func (x *Exemplars) Flush() (stored int) {
	if x == nil {
		return 0
	}
	if len(x.list) == 0 {
		return x.stored
	}
	x.counts.Read.Add(len(x.list))
	if err := x.req.Exemplars(x.list); err != nil {
		x.intake.exemplarsDropped.Add(len(x.list))
		x.intake.Warnf("cannot store %d exemplars; they are dropped, samples are not affected: %s", len(x.list), err)
	} else {
		x.stored += len(x.list)
	}
	x.list = slices.Delete(x.list, 0, len(x.list))
	return x.stored
}

// SeriesKeys makes keys of the series of a request, for what goes along with their samples.
type SeriesKeys struct {
	req     *Request
	limits  *Collector // knows them
	relabel Relabeling
	scratch []model.Label
}

// SeriesKeys returns one for a request, which uses it from one goroutine.
func (in *Intake) SeriesKeys(req *Request) *SeriesKeys {
	return &SeriesKeys{req: req, limits: &Collector{intake: in}, relabel: in.numbers.relabeling()}
}

// Of returns the key of a series with the given labels, changed as those of samples are; false when it is left out, which is counted with the samples. The labels are
// reordered and their strings copied.
func (k *SeriesKeys) Of(labels []model.Label) (key []byte, ok bool) {
	var kept bool
	if labels, k.scratch, kept = k.req.change(labels, k.scratch, k.relabel); !kept {
		return nil, false
	}
	tenant, labels := k.req.tenantOf(labels)
	if k.limits.intake.config.PromNaming {
		promNames(labels)
	}
	if r, _ := k.limits.check(labels); r != reasonCount {
		return nil, false
	}
	key, err := model.AppendSeriesKey(nil, tenant, labels)
	return key, err == nil
}
