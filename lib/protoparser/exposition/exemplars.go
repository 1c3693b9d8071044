package exposition

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/protoparser"
)

// exemplars takes the exemplars of lines.
type exemplars struct {
	parser *Parser
	to     *protoparser.Exemplars // nil: nobody wants them
	series row                    // scratch
	one    row                    // scratch
}

// take hands on the exemplar of a line whose sample has been read. One without a timestamp has that of the sample.
func (x *exemplars) take(line []byte, sample *row) {
	if x.series.parse(line) != "" || !x.to.Series(x.series.labels) {
		return
	}
	if fault := x.one.parseExemplar(sample.exemplar); fault != "" {
		x.to.Invalid(errkind.New(errkind.BadRequest, "cannot read exemplar: %s", fault))
		return
	}
	timestamp := sample.timestamp
	if x.one.hasTimestamp {
		timestamp = x.one.timestamp
	}
	x.to.Add(x.one.labels, timestamp, x.one.value)
}
