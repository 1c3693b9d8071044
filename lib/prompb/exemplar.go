package prompb

import (
	"math"

	"vmcluster/lib/errkind"
)

// Exemplar is a sample with labels of its own.
type Exemplar[L ~struct{ Name, Value string }] struct {
	Labels    []L      // of version 1.0, as sent: neither sorted nor checked
	Refs      []uint32 // of version 2.0, as DecoderV2.Refs
	Timestamp int64    // Unix milliseconds
	Value     float64
}

// Exemplars returns how many exemplars the current series has. A guess of NextGuess has none.
func (d *Decoder[L]) Exemplars() int { return len(d.exemplars) }

// Exemplar decodes an exemplar of the current series, whose lists are used again. The strings are parts of the body. The error is of kind BadRequest and concerns
// this exemplar only.
//
//	message Exemplar { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
func (d *Decoder[L]) Exemplar(i int, e *Exemplar[L]) error {
	e.Labels = e.Labels[:0]
	return decodeExemplar(d.body, d.exemplars[i], e, func(r *reader, wire int) { e.Labels = append(e.Labels, L(r.label(wire))) })
}

// Exemplars returns how many exemplars the current series has.
func (d *DecoderV2) Exemplars() int { return len(d.exemplars) }

// Exemplar decodes an exemplar of the current series, whose lists are used again. The error is of kind BadRequest and concerns this exemplar only.
//
//	message Exemplar { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
func (d *DecoderV2) Exemplar(i int, e *Exemplar[Label]) error {
	e.Refs = e.Refs[:0]
	return decodeExemplar(d.body, d.exemplars[i], e, func(r *reader, wire int) {
		if wire == wireVarint {
			e.Refs = append(e.Refs, uint32(r.varint()))
			return
		}
		m := r.message(wire, "label references")
		e.Refs = m.refs(e.Refs)
		r.adopt(&m)
	})
}

func decodeExemplar[L ~struct{ Name, Value string }](body []byte, s span, e *Exemplar[L], label func(r *reader, wire int)) error {
	r := reader{b: body, pos: s.start, end: s.end}
	e.Timestamp, e.Value = 0, 0
	for r.pos < r.end {
		field, wire := r.tag()
		switch {
		case field == 1:
			label(&r, wire)
		case field == 2 && wire == wireFixed64:
			e.Value = math.Float64frombits(r.fixed64())
		case field == 3 && wire == wireVarint:
			e.Timestamp = int64(r.varint())
		default:
			r.skip(field, wire)
		}
		if len(e.Labels) > maxExemplarLabels || len(e.Refs) > 2*maxExemplarLabels {
			r.fail(r.pos, "it has too many labels")
		}
	}
	if r.fault != "" {
		return errkind.New(errkind.BadRequest, "cannot decode exemplar of %d bytes at offset %d: %s", s.end-s.start, r.faultPos-s.start, r.fault)
	}
	return nil
}

// maxExemplarLabels is more than the limit on characters allows.
const maxExemplarLabels = 128
