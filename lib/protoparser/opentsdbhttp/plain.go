package opentsdbhttp

import (
	"math"

	"vmcluster/lib/protoparser"
)

// plainRow is a row of a body which is as nearly all senders write it. Its labels are parts of the body.
type plainRow struct {
	timestamp int64 // 0: it has none
	value     float64
	metric    part
	tags      part // of no size: it has none
}

type part struct{ start, end uint32 }

func (p part) of(body []byte) []byte { return body[p.start:p.end] }

// plainScanner reads and checks a body in one pass, where all other bodies take two. It gives up on all that is not plain: other members, and
// the same one twice, escapes in texts, quoted numbers, whatever is wrong.
type plainScanner struct {
	b []byte
	i int
}

// appendPlain appends the rows of a plain body; false when it is not plain.
func appendPlain(dst []plainRow, body []byte) (rows []plainRow, ok bool) {
	if uint64(len(body)) > math.MaxUint32 {
		return dst, false
	}
	s := plainScanner{b: body}
	if s.next() == '{' {
		dst = append(dst, plainRow{})
		ok = s.row(&dst[len(dst)-1])
		return dst, ok && s.next() == 0 && s.i == len(body)
	}
	for separator := byte('['); s.take(separator); separator = ',' {
		dst = append(dst, plainRow{})
		if !s.row(&dst[len(dst)-1]) {
			return dst, false
		}
	}
	return dst, s.take(']') && s.next() == 0 && s.i == len(body)
}

// next skips spaces and returns the byte behind them, 0 at the end.
func (s *plainScanner) next() byte {
	for ; s.i < len(s.b); s.i++ {
		if c := s.b[s.i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
	}
	return 0
}

// take skips spaces and passes the given byte, if that comes next.
func (s *plainScanner) take(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c || s.next() == c {
		s.i++
		return true
	}
	return false
}

// text passes a text without escapes and returns where it is, with its quotes.
func (s *plainScanner) text() (p part, ok bool) {
	if !s.take('"') {
		return p, false
	}
	start := s.i - 1
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return part{uint32(start), uint32(s.i)}, true
		case c == '\\' || c < ' ':
			return p, false
		}
	}
	return p, false
}

// digits passes digits, of which there must be some.
func (s *plainScanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start
}

// passes reports whether one of two bytes comes next, and passes it then.
func (s *plainScanner) passes(a, b byte) bool {
	if s.i < len(s.b) && (s.b[s.i] == a || s.b[s.i] == b) {
		s.i++
		return true
	}
	return false
}

// number passes a number as JSON has them.
func (s *plainScanner) number() (text []byte, ok bool) {
	s.next()
	start := s.i
	s.passes('-', '-')
	if !s.passes('0', '0') && !s.digits() {
		return nil, false
	}
	if s.passes('.', '.') && !s.digits() {
		return nil, false
	}
	if s.passes('e', 'E') {
		s.passes('+', '-')
		if !s.digits() {
			return nil, false
		}
	}
	return s.b[start:s.i], true
}

// row passes an object.
func (s *plainScanner) row(r *plainRow) bool {
	const metric, timestamp, value, tags = 1, 2, 4, 8
	seen := 0
	for separator := byte('{'); s.take(separator); separator = ',' {
		key, ok := s.text()
		if !ok || !s.take(':') {
			return false
		}
		member := 0
		switch string(key.of(s.b)) {
		case `"metric"`:
			member = metric
			r.metric, ok = s.text()
		case `"timestamp"`:
			member = timestamp
			r.timestamp, ok = s.timestamp()
		case `"value"`:
			member = value
			var text []byte
			if text, ok = s.number(); ok {
				r.value, ok = protoparser.ParseFloat(text)
			}
		case `"tags"`:
			member = tags
			r.tags, ok = s.tags()
		}
		if !ok || member == 0 || seen&member != 0 {
			return false
		}
		seen |= member
	}
	return s.take('}') && seen&(metric|value) == metric|value
}

func (s *plainScanner) timestamp() (ms int64, ok bool) {
	text, ok := s.number()
	if !ok {
		return 0, false
	}
	ms, ok = protoparser.SecondsOrMs(text)
	return ms, ok && ms >= 0
}

func (s *plainScanner) tags() (p part, ok bool) {
	s.next()
	p.start = uint32(s.i)
	for separator := byte('{'); s.take(separator); separator = ',' {
		if separator == '{' && s.next() == '}' {
			break
		}
		if _, ok := s.text(); !ok || !s.take(':') {
			return p, false
		}
		if _, ok := s.text(); !ok {
			return p, false
		}
	}
	ok = s.i > int(p.start) && s.take('}')
	p.end = uint32(s.i)
	return p, ok
}
