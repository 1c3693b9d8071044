package otlp

import (
	"strconv"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
)

// partKind says what of a point a series has.
type partKind uint8

const (
	wholeValue partKind = iota
	count
	total
	leBucket    // those which follow have a label with bounds
	rangeBucket // has two
	quantileOf
)

// part is what of a point a series has. The label that is not one of the attributes has the bounds as its value.
type part struct {
	kind      partKind
	low, high float64
}

// text returns what the name of the series ends with, and its label besides the attributes, without a name if there is none.
func (s part) text() (suffix string, extra model.Label) {
	switch s.kind {
	case count:
		return "_count", extra
	case total:
		return "_sum", extra
	case leBucket:
		return "_bucket", model.Label{Name: "le", Value: formatFloat(s.low)}
	case rangeBucket:
		return "_bucket", model.Label{Name: model.RangeLabel, Value: formatRange(s.low, s.high)}
	case quantileOf:
		return "", model.Label{Name: "quantile", Value: formatFloat(s.low)}
	}
	return "", extra
}

func le(bound float64) part { return part{kind: leBucket, low: bound} }

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func formatRange(low, high float64) string {
	return string(nativehistogram.AppendVMRange(nil, low, high))
}
