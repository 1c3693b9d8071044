package metricsql

import (
	"math"
	"strconv"
	"strings"
)

// number is a numeric token. A duration has its length in millis and steps;
// value is then its length in seconds, without the steps.
type number struct {
	value      float64
	isDuration bool
	millis     float64
	steps      float64
	// plain is set for decimal numbers without a size suffix: only they may stand as a window.
	plain bool
}

// lexNumber reads a number, a number with a size suffix, or a duration.
func (l *lexer) lexNumber() token {
	start := l.pos
	rest := l.src[start:]
	var num number
	var n int
	var problem string
	switch {
	case hasRadixPrefix(rest):
		num, n, problem = scanRadix(rest)
	case durationPartLen(rest) > 0:
		num, n = scanDuration(rest)
	default:
		num, n, problem = scanDecimal(rest)
	}
	if problem != "" {
		return l.bad(start, "cannot parse number %q: %s", rest[:n], problem)
	}
	l.pos = start + n
	if l.identRuneLen(l.pos, false) > 0 {
		end := l.pos
		for k := l.identRuneLen(end, false); k > 0; k = l.identRuneLen(end, false) {
			end += k
		}
		return l.bad(start, "cannot parse number %q: unknown suffix %q", l.src[start:end], l.src[l.pos:end])
	}
	return token{kind: tokNumber, pos: start, end: l.pos, text: l.src[start:l.pos], num: num}
}

func hasRadixPrefix(s string) bool {
	if len(s) < 2 || s[0] != '0' {
		return false
	}
	switch s[1] {
	case 'x', 'X', 'b', 'B', 'o', 'O':
		return true
	}
	return false
}

// scanRadix reads 0x1F, 0b101 and 0o17.
func scanRadix(s string) (num number, n int, problem string) {
	n = 2
	for n < len(s) && (isDigit(s[n]) || isLetter(s[n])) {
		n++
	}
	v, err := strconv.ParseUint(s[:n], 0, 64)
	if err != nil {
		return num, n, "malformed or too large"
	}
	num.value = float64(v)
	return num, n, ""
}

// digitsLen returns the length of the digits at the start of s, with single underscores between them.
func digitsLen(s string) int {
	n := 0
	for n < len(s) {
		if isDigit(s[n]) || s[n] == '_' && n > 0 && s[n-1] != '_' && n+1 < len(s) && isDigit(s[n+1]) {
			n++
			continue
		}
		break
	}
	return n
}

// mantissaLen returns the length of 12, 12.5, 12. or .5 at the start of s.
func mantissaLen(s string) int {
	n := digitsLen(s)
	if n < len(s) && s[n] == '.' {
		n++
		n += digitsLen(s[n:])
	}
	return n
}

func scanDecimal(s string) (num number, n int, problem string) {
	n = mantissaLen(s)
	mantissa := n
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		k := n + 1
		if k < len(s) && (s[k] == '+' || s[k] == '-') {
			k++
		}
		if digits := digitsLen(s[k:]); digits > 0 {
			n = k + digits
		}
	}
	text := strings.ReplaceAll(s[:n], "_", "")
	if n == mantissa && len(text) > 1 && text[0] == '0' && !strings.Contains(text, ".") {
		v, err := strconv.ParseUint(text, 8, 64)
		if err != nil {
			return num, n, "a number with a leading zero is octal"
		}
		num.value = float64(v)
		num.plain = true
		return num, n, ""
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return num, n, "out of range or malformed"
	}
	num.value = v
	if factor, k := sizeSuffix(s[n:]); k > 0 {
		num.value *= factor
		return num, n + k, ""
	}
	num.plain = true
	return num, n, ""
}

// sizeSuffix returns the factor and the length of the size suffix which s starts with.
func sizeSuffix(s string) (factor float64, n int) {
	if s == "" {
		return 0, 0
	}
	power := strings.IndexByte("kmgt", s[0]|0x20) + 1
	if power == 0 {
		return 0, 0
	}
	n = 1
	base := 1000.0
	if len(s) > n && s[n]|0x20 == 'i' {
		base = 1024
		n++
	}
	if len(s) > n && s[n]|0x20 == 'b' {
		n++
	}
	if n == 1 && s[0] == 'm' {
		return 0, 0 // minutes
	}
	return math.Pow(base, float64(power)), n
}

// durationUnit returns milliseconds per unit, or for steps isStep, and the length of the unit which s starts with.
func durationUnit(s string) (millis float64, isStep bool, n int) {
	if s == "" {
		return 0, false, 0
	}
	switch {
	case len(s) > 1 && s[0]|0x20 == 'm' && s[1]|0x20 == 's':
		return 1, false, 2
	case s[0] == 'm':
		if _, k := sizeSuffix(s); k > 0 {
			return 0, false, 0
		}
		return 60e3, false, 1
	}
	switch s[0] | 0x20 {
	case 's':
		return 1e3, false, 1
	case 'h':
		return 3600e3, false, 1
	case 'd':
		return 24 * 3600e3, false, 1
	case 'w':
		return 7 * 24 * 3600e3, false, 1
	case 'y':
		return 365 * 24 * 3600e3, false, 1
	case 'i':
		return 0, true, 1
	}
	return 0, false, 0
}

// durationPartLen returns the length of number and unit at the start of s; 0 if there is no unit.
func durationPartLen(s string) int {
	n := mantissaLen(s)
	if n == 0 || s[:n] == "." {
		return 0
	}
	if _, _, k := durationUnit(s[n:]); k > 0 {
		return n + k
	}
	return 0
}

// scanDuration reads 1h30m and 1h-10m: parts follow each other without blanks, later ones may be negative.
func scanDuration(s string) (num number, n int) {
	num.isDuration = true
	sign := 1.0
	for {
		part := durationPartLen(s[n:])
		if part == 0 {
			break
		}
		digits := mantissaLen(s[n:])
		v, err := strconv.ParseFloat(strings.ReplaceAll(s[n:n+digits], "_", ""), 64)
		if err != nil {
			break // cannot be: the mantissa holds digits and at most one dot, without an exponent
		}
		millis, isStep, _ := durationUnit(s[n+digits:])
		if isStep {
			num.steps += sign * v
		} else {
			num.millis += sign * v * millis
		}
		n += part
		sign = 1
		if n < len(s) && s[n] == '-' && durationPartLen(s[n+1:]) > 0 {
			sign = -1
			n++
		}
	}
	num.value = num.millis / 1000
	return num, n
}
