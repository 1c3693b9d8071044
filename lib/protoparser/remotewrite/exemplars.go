package remotewrite

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
)

// exemplars takes the exemplars of one series after the other.
type exemplars struct {
	to     *protoparser.Exemplars // nil: nobody wants them
	labels []model.Label          // scratch
	one    prompb.Exemplar[model.Label]
	oneV2  prompb.Exemplar[prompb.Label]
}

// take hands on the exemplars of the current series.
func (x *exemplars) take(d *decoder) {
	labels, ok := d.Labels()
	if !ok {
		return
	}
	x.labels = append(x.labels[:0], labels...)
	if !x.to.Series(x.labels) {
		return
	}
	for i := range d.Exemplars() {
		if err := d.Exemplar(i, &x.one); err != nil {
			x.to.Invalid(err)
			continue
		}
		x.to.Add(x.one.Labels, x.one.Timestamp, x.one.Value)
	}
}

// collectExemplars hands on the exemplars of the current series.
func (t *table) collectExemplars() {
	x := &t.exemplars
	refs, ok := t.decoder.Refs()
	if !ok || t.check(refs) != "" { // which is counted with the samples
		return
	}
	if x.labels = t.appendLabels(x.labels[:0], refs); !x.to.Series(x.labels) {
		return
	}
	for i := range t.decoder.Exemplars() {
		err := t.decoder.Exemplar(i, &x.oneV2)
		if wrong := t.check(x.oneV2.Refs); err == nil && wrong != "" {
			err = errkind.New(errkind.BadRequest, "cannot read exemplar: %s", wrong)
		}
		if err != nil {
			x.to.Invalid(err)
			continue
		}
		x.labels = t.appendLabels(x.labels[:0], x.oneV2.Refs)
		x.to.Add(x.labels, x.oneV2.Timestamp, x.oneV2.Value)
	}
}
