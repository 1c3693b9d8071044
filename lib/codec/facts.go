package codec

import "math"

// Facts are what is known of a column of values without decoding it. A bit that
// is set holds; a bit that is not set says nothing.
type Facts uint8

const (
	// NoNaN says that no value is a NaN of any kind, stale markers included.
	NoNaN Facts = 1 << iota
	// NeverDecreases says that no number is less than the number before it; NaNs between them do not count.
	NeverDecreases
	// Constant says that all values have the same bits. ConstValue gives them.
	Constant

	allFacts = NoNaN | NeverDecreases | Constant
)

// Has reports whether all of the given facts hold.
func (f Facts) Has(facts Facts) bool { return f&facts == facts }

// The format byte of a column of values has its format in the low bits and its facts above.
const (
	formatBits = 4
	formatMask = 1<<formatBits - 1
)

func formatByte(format byte, facts Facts) byte { return format | byte(facts)<<formatBits }

// ValuesFacts returns the facts of an encoded column of values; none of damaged bytes.
func ValuesFacts(column []byte) Facts {
	if len(column) == 0 {
		return 0
	}
	facts := Facts(column[0]>>formatBits) & allFacts
	if column[0]&formatMask != valuesConst {
		facts &^= Constant
	}
	return facts
}

// FactsOf finds the facts of one or more values.
func FactsOf(values []float64) Facts {
	if isConst(values) {
		if len(values) > 0 && values[0] != values[0] {
			return Constant | NeverDecreases
		}
		return Constant | NoNaN | NeverDecreases
	}
	// Most columns either never decrease or do so early: each loop runs over the
	// column about once, and does one comparison a value.
	facts := NoNaN | NeverDecreases
	i, previous := 0, math.Inf(-1)
	for ; i < len(values); i++ {
		v := values[i]
		if v >= previous {
			previous = v
			continue
		}
		if v == v {
			facts &^= NeverDecreases
			break
		}
		facts &^= NoNaN
	}
	for ; i < len(values) && facts.Has(NoNaN); i++ {
		if v := values[i]; v != v {
			facts &^= NoNaN
		}
	}
	return facts
}
