package prompb

// Metadata calls use with the descriptions of metrics that were passed so far. Their strings are parts of the body. A description which
// cannot be read is left out, since samples do not depend on it.
func (d *Decoder[L]) Metadata(use func(m *Metadata)) {
	for _, s := range d.metadata {
		r := reader{b: d.body, pos: s.start, end: s.end}
		if m, ok := r.metadata(); ok {
			use(&m)
		}
	}
}

func (r *reader) metadata() (m Metadata, ok bool) {
	for r.pos < r.end {
		field, wire := r.tag()
		switch {
		case field == 1 && wire == wireVarint:
			m.Type = r.varint()
		case field == 2:
			m.Metric = r.string(wire, "metric name")
		case field == 4:
			m.Help = r.string(wire, "help")
		case field == 5:
			m.Unit = r.string(wire, "unit")
		default:
			r.skip(field, wire)
		}
	}
	return m, r.fault == "" && m.Metric != ""
}
