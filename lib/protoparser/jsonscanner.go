package protoparser

import (
	"bytes"
	"encoding/json"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/invariants"
)

// JSONScanner walks over JSON which is known to be valid, without a tree of values, which would take many times the memory of the text.
type JSONScanner struct{ b []byte }

// NewJSONScanner returns a scanner of valid JSON.
func NewJSONScanner(b []byte) *JSONScanner { return &JSONScanner{b} }

// Rest returns what was not passed yet.
func (s *JSONScanner) Rest() []byte { return s.b }

// Enter passes the bracket that Next has returned.
func (s *JSONScanner) Enter() { s.b = s.b[1:] }

// Leave passes the closing bracket for which More has returned false.
func (s *JSONScanner) Leave() { s.b = s.b[1:] }

// Member cuts off the key and the value which come next in an object.
func (s *JSONScanner) Member() (key, value []byte) {
	key = s.Value()
	s.Next()
	s.b = s.b[1:] // the colon
	return key, s.Value()
}

// UnquoteNumber takes the quotes off a text without escapes, as numbers are; other values stay as they are.
func UnquoteNumber(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}

// JSONText returns the text of a JSON string, which may be a part of it; false when the value is none.
func JSONText(value []byte) (text []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], true
	}
	var s string
	err := json.Unmarshal(value, &s)
	invariants.Check(err == nil, "a part of valid JSON is not valid: %v", err)
	return bytesutil.Bytes(s), true
}

// Next skips spaces and returns the byte behind them, 0 at the end.
func (s *JSONScanner) Next() byte {
	for len(s.b) > 0 {
		switch c := s.b[0]; c {
		case ' ', '\t', '\n', '\r':
			s.b = s.b[1:]
		default:
			return c
		}
	}
	return 0
}

// More skips a comma and reports whether there is another element before the closing bracket.
func (s *JSONScanner) More(closing byte) bool {
	c := s.Next()
	if c == ',' {
		s.b = s.b[1:]
		c = s.Next()
	}
	return c != closing && c != 0
}

// Value cuts off the value which comes next.
func (s *JSONScanner) Value() []byte {
	depth := 0
	start := s.Next()
	b := s.b
	if '0' <= start && start <= '9' || start == '-' {
		return s.number()
	}
	if end := endOfNumbers(b); end > 0 {
		s.b = b[end:]
		return b[:end]
	}
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			i = endOfString(b, i)
			if start == '"' {
				s.b = b[i+1:]
				return b[:i+1]
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				s.b = b[i+1:]
				return b[:i+1]
			}
			if depth < 0 { // of what has the number in it
				s.b = b[i:]
				return b[:i]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				s.b = b[i:]
				return b[:i]
			}
		}
	}
	s.b = nil
	return b
}

// endOfNumbers returns where the array ends which b begins with, if it is one of numbers and the like; 0 otherwise.
func endOfNumbers(b []byte) int {
	if len(b) == 0 || b[0] != '[' {
		return 0
	}
	end := bytes.IndexByte(b, ']')
	if list := b[1:max(end, 1)]; bytes.IndexByte(list, '"') >= 0 || bytes.IndexByte(list, '[') >= 0 || bytes.IndexByte(list, '{') >= 0 {
		return 0
	}
	return end + 1
}

// number cuts off the number which comes next.
func (s *JSONScanner) number() []byte {
	b := s.b
	for i, c := range b {
		if c == ',' || c == ']' || c == '}' || c <= ' ' {
			s.b = b[i:]
			return b[:i]
		}
	}
	s.b = nil
	return b
}

// endOfString returns where the string which begins at b[i] has its closing quote.
func endOfString(b []byte, i int) int {
	for start := i + 1; ; start = i + 1 {
		n := bytes.IndexByte(b[start:], '"')
		invariants.Check(n >= 0, "valid JSON has a string which does not end")
		i = start + n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}
