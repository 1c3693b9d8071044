package selectapi

import (
	"math"
	"strconv"
	"unicode/utf8"

	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// appendJSONString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscaped(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendMetric appends labels as a JSON object.
func appendMetric(dst []byte, labels []model.Label) []byte {
	dst = append(dst, '{')
	for i, l := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONString(dst, l.Name)
		dst = append(dst, ':')
		dst = appendJSONString(dst, l.Value)
	}
	return append(dst, '}')
}

// appendSeconds appends a time in milliseconds as seconds with up to three decimals.
func appendSeconds(dst []byte, ms int64) []byte {
	if ms < 0 {
		return strconv.AppendFloat(dst, float64(ms)/1e3, 'f', -1, 64)
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	frac := ms % 1000
	if frac == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendFloat appends the shortest decimal that reads back to v, without an exponent.
func appendFloat(dst []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-Inf"...)
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	}
	if i := int64(v); float64(i) == v && i > -1e15 && i < 1e15 && (i != 0 || !math.Signbit(v)) {
		return strconv.AppendInt(dst, i, 10)
	}
	if m := v * decimalScale; math.Abs(m) < 1e15 {
		if i := int64(m); float64(i)/decimalScale == v && i != 0 {
			return appendDecimal(dst, i)
		}
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

// decimalScale is 10 to the number of decimals which appendDecimal writes.
const decimalScale = 1e4

// appendDecimal appends m/10^4 without trailing zeros. It is the shortest decimal of the float64 that is nearest to it, since m has at most
// 15 digits, and no two decimals of so many digits have the same one.
func appendDecimal(dst []byte, m int64) []byte {
	if m < 0 {
		dst = append(dst, '-')
		m = -m
	}
	dst = strconv.AppendInt(dst, m/decimalScale, 10)
	frac := m % decimalScale
	dst = append(dst, '.', byte('0'+frac/1000), byte('0'+frac/100%10), byte('0'+frac/10%10), byte('0'+frac%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendPoint appends [seconds,"value"].
func appendPoint(dst []byte, ms int64, v float64) []byte {
	dst = append(dst, '[')
	dst = appendSeconds(dst, ms)
	dst = append(dst, ',', '"')
	dst = appendFloat(dst, v)
	return append(dst, '"', ']')
}

// appendSeriesJSON appends one series of a vector or matrix result.
func appendSeriesJSON(dst []byte, s *query.ResultSeries, t query.ResultType) []byte {
	dst = append(dst, `{"metric":`...)
	dst = appendMetric(dst, s.Labels)
	if t == query.Vector {
		dst = append(dst, `,"value":`...)
		dst = appendPoint(dst, s.Timestamps[0], s.Values[0])
		return append(dst, '}')
	}
	dst = append(dst, `,"values":[`...)
	for i, ts := range s.Timestamps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPoint(dst, ts, s.Values[i])
	}
	return append(dst, ']', '}')
}

// appendStringsJSON appends a JSON array of strings.
func appendStringsJSON(dst []byte, values []string) []byte {
	dst = append(dst, '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONString(dst, v)
	}
	return append(dst, ']')
}
