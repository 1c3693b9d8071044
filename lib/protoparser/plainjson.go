package protoparser

// PlainJSON passes over JSON as programs write it, and checks it as it goes, where others need a pass to check and another one to read. It gives
// up on what is not plain, such as escapes in texts, and on what is no JSON: each method returns false then, and the caller reads the
// text in another way.
type PlainJSON struct {
	B []byte
	I int // up to where it was passed
}

// Next skips spaces and returns the byte behind them, 0 at the end.
func (s *PlainJSON) Next() byte {
	for ; s.I < len(s.B); s.I++ {
		if c := s.B[s.I]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
	}
	return 0
}

// AtEnd reports whether only spaces are left.
func (s *PlainJSON) AtEnd() bool { return s.Next() == 0 && s.I == len(s.B) }

// Take skips spaces and passes the given byte, if that comes next.
func (s *PlainJSON) Take(c byte) bool {
	if s.I < len(s.B) && s.B[s.I] == c || s.Next() == c {
		s.I++
		return true
	}
	return false
}

// Text passes a text without escapes and returns it with its quotes.
func (s *PlainJSON) Text() (text []byte, ok bool) {
	if !s.Take('"') {
		return nil, false
	}
	start := s.I - 1
	for i := s.I; i < len(s.B); i++ {
		switch c := s.B[i]; {
		case c == '"':
			s.I = i + 1
			return s.B[start:s.I], true
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// Key passes a key and its colon, and returns it with its quotes.
func (s *PlainJSON) Key() (text []byte, ok bool) {
	text, ok = s.Text()
	return text, ok && s.Take(':')
}

// Texts passes an object whose members are all texts, and returns it.
func (s *PlainJSON) Texts() (object []byte, ok bool) {
	s.Next()
	start := s.I
	for separator := byte('{'); s.Take(separator); separator = ',' {
		if separator == '{' && s.Next() == '}' {
			break
		}
		if _, ok := s.Key(); !ok {
			return nil, false
		}
		if _, ok := s.Text(); !ok {
			return nil, false
		}
	}
	if s.I == start || !s.Take('}') {
		return nil, false
	}
	return s.B[start:s.I], true
}

// Number passes a number.
func (s *PlainJSON) Number() (text []byte, ok bool) {
	s.Next()
	start := s.I
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
	return s.B[start:s.I], true
}

// digits passes digits, of which there must be some.
func (s *PlainJSON) digits() bool {
	start := s.I
	for s.I < len(s.B) && s.B[s.I]-'0' <= 9 {
		s.I++
	}
	return s.I > start
}

// passes reports whether one of two bytes comes next, and passes it then.
func (s *PlainJSON) passes(a, b byte) bool {
	if s.I < len(s.B) && (s.B[s.I] == a || s.B[s.I] == b) {
		s.I++
		return true
	}
	return false
}
