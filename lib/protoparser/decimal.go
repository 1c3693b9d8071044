package protoparser

import (
	"math"
	"strconv"

	"vmcluster/lib/bytesutil"
)

// Up to so many digits a mantissa is exact as a float64, as the powers of ten below are, so that one division rounds correctly.
const exactDigits = 15

func powersOfTen() [exactDigits + 1]float64 {
	return [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}
}

// ParseFloat reads a number as strconv.ParseFloat does, and short decimals in a third of the time.
func ParseFloat(b []byte) (v float64, ok bool) {
	i, negative := 0, false
	if len(b) > 0 && b[0] == '-' {
		i, negative = 1, true
	}
	var mantissa int64
	digits, point := 0, -1
	for ; i < len(b) && digits <= exactDigits; i++ {
		switch c := b[i]; {
		case '0' <= c && c <= '9':
			mantissa = mantissa*10 + int64(c-'0')
			digits++
		case c == '.' && point < 0:
			point = digits
		default:
			return parseFloat(b)
		}
	}
	if digits == 0 || digits > exactDigits || mantissa == 0 {
		return parseFloat(b) // zero may be negative
	}
	v = float64(mantissa)
	if point >= 0 {
		v /= powersOfTen()[digits-point]
	}
	if negative {
		v = -v
	}
	return v, true
}

func parseFloat(b []byte) (v float64, ok bool) {
	v, err := strconv.ParseFloat(bytesutil.String(b), 64)
	return v, err == nil
}

// ParseInt reads a decimal integer.
func ParseInt(b []byte) (n int64, ok bool) {
	i, negative := 0, false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		i, negative = 1, b[0] == '-'
	}
	const most = len("9223372036854775807")
	if i == len(b) || len(b)-i > most || len(b)-i == most && b[i] == '9' { // may overflow
		n, err := strconv.ParseInt(bytesutil.String(b), 10, 64)
		return n, err == nil
	}
	for ; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	if negative {
		n = -n
	}
	return n, true
}

// Seconds reads a time in seconds since 1970, which may have a fraction, as Unix milliseconds; false when it is none.
func Seconds(b []byte) (ms int64, ok bool) { return epoch(b, math.MaxInt64) }

// SecondsOrMs reads a time since 1970 in seconds or, when it is too large for seconds in the next centuries, in milliseconds.
func SecondsOrMs(b []byte) (ms int64, ok bool) { return epoch(b, 1<<32) }

func epoch(b []byte, msFrom float64) (ms int64, ok bool) {
	const most = math.MaxInt64 / 2000 // seconds
	t, ok := ParseFloat(b)
	if !ok || math.IsNaN(t) {
		return 0, false
	}
	if math.Abs(t) < msFrom {
		if math.Abs(t) > most {
			return 0, false
		}
		t *= 1000
	}
	if math.Abs(t) >= math.MaxInt64 {
		return 0, false
	}
	return int64(math.Round(t)), true
}

// Lower returns the time as a multiple of unitMs that is not later, if unitMs is more than 1.
func Lower(ms, unitMs int64) int64 {
	if unitMs > 1 {
		ms -= ms % unitMs
	}
	return ms
}
