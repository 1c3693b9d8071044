package index

import "encoding/binary"

// Label values are packed before they are front-coded: hexadecimal digits, of which uuids and container ids are made, take
// half a byte each. Other text stays as it is, so that packing costs values without such digits nothing.
const (
	tokenUUID   = 0xf8 // 16 bytes follow
	tokenHex    = 0xf9 // a count of bytes and the bytes follow, two lower case digits each
	tokenEscape = 0xfa // a byte from tokenUUID on follows; such bytes are not part of valid UTF-8
	minHexRun   = 8    // digits that are worth a token
	maxHexRun   = 2 * 255
	uuidLen     = 36
)

// hexDigit returns the value of a lower case digit, 16 for other bytes.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// appendPacked appends a value in packed form, and reports whether that differs from the value.
func appendPacked(dst []byte, value []byte) (_ []byte, packed bool) {
	for i := 0; i < len(value); {
		run := hexRun(value[i:])
		switch {
		case run >= 8 && isUUID(value[i+run-8:]): // digits may stand before it, as in "pod"
			dst = append(dst, value[i:i+run-8]...)
			i += run - 8
			dst = append(dst, tokenUUID)
			for _, part := range [5][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
				dst = appendNibbles(dst, value[i+part[0]:i+part[1]])
			}
			i += uuidLen
			packed = true
		case run >= minHexRun:
			run = min(run&^1, maxHexRun)
			dst = append(dst, tokenHex, byte(run/2))
			dst = appendNibbles(dst, value[i:i+run])
			i += run
			packed = true
		case run > 0:
			dst = append(dst, value[i:i+run]...)
			i += run
		case value[i] >= tokenUUID:
			dst = append(dst, tokenEscape, value[i])
			i++
			packed = true
		default:
			dst = append(dst, value[i])
			i++
		}
	}
	return dst, packed
}

// hexRun returns the number of digits at the start of b.
func hexRun(b []byte) int {
	n := 0
	for n < len(b) && hexDigit(b[n]) < 16 {
		n++
	}
	return n
}

// isUUID reports whether b starts with a uuid and no digit behind it.
func isUUID(b []byte) bool {
	if len(b) < uuidLen || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return false
	}
	return hexRun(b) == 8 && hexRun(b[9:]) == 4 && hexRun(b[14:]) == 4 && hexRun(b[19:]) == 4 && hexRun(b[24:]) == 12
}

func appendNibbles(dst, digits []byte) []byte {
	for i := 0; i+1 < len(digits); i += 2 {
		dst = append(dst, hexDigit(digits[i])<<4|hexDigit(digits[i+1]))
	}
	return dst
}

// appendUnpacked is the opposite of appendPacked. False means that the packed form is damaged.
func appendUnpacked(dst, packed []byte) ([]byte, bool) {
	r := reader{b: packed}
	for len(r.b) > 0 {
		c := r.b[0]
		r.b = r.b[1:]
		switch c {
		case tokenUUID:
			if b := r.bytes(16); b != nil {
				dst = appendUUID(dst, b)
			}
		case tokenHex:
			dst = appendDigits(dst, r.bytes(uint64(r.byte())))
		case tokenEscape:
			dst = append(dst, r.byte())
		default:
			dst = append(dst, c)
		}
	}
	return dst, !r.bad
}

func appendUUID(dst, b []byte) []byte {
	dst = append(appendDigits(dst, b[:4]), '-')
	dst = append(appendDigits(dst, b[4:6]), '-')
	dst = append(appendDigits(dst, b[6:8]), '-')
	dst = append(appendDigits(dst, b[8:10]), '-')
	return appendDigits(dst, b[10:])
}

func appendDigits(dst, b []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range b {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}

// Postings of up to maxFew ids may be kept packed: the first id, then steps from one to the next, each with the number of
// times it repeats. In the order of scrapes that is a few bytes for what arrays of ids take dozens for.

// appendSteps appends the steps between ascending ids, of which there is at least one.
func appendSteps(dst []byte, ids []uint32, base uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(ids[0]-base))
	for i := 1; i < len(ids); {
		step, n := ids[i]-ids[i-1], 1
		for i+n < len(ids) && ids[i+n]-ids[i+n-1] == step {
			n++
		}
		if n == 1 {
			dst = binary.AppendUvarint(dst, uint64(step)<<1)
		} else {
			dst = binary.AppendUvarint(dst, uint64(step)<<1|1)
			dst = binary.AppendUvarint(dst, uint64(n-2))
		}
		i += n
	}
	return dst
}

// appendIDs reads n ids back. They ascend and lie in [base, last]; otherwise the reader fails.
func (r *reader) appendIDs(dst []uint32, n int, base, last uint32) []uint32 {
	id := uint64(base) + r.uvarint()
	for n > 0 && id <= uint64(last) {
		dst = append(dst, uint32(id))
		if n--; n == 0 {
			return dst
		}
		step := r.uvarint()
		repeat := uint64(1)
		if step&1 != 0 {
			repeat = r.uvarint() + 2
		}
		step >>= 1
		if step == 0 || step > uint64(last) || repeat > uint64(n) {
			break
		}
		for ; repeat > 1 && id+step <= uint64(last); repeat-- {
			id += step
			dst = append(dst, uint32(id))
			n--
		}
		id += step
	}
	r.fail()
	return dst
}

// bitmapSize estimates the size of a roaring bitmap of ascending ids.
func bitmapSize(ids []uint32) int {
	size := 8
	for i := 0; i < len(ids); {
		high, start, runs := ids[i]>>16, i, 0
		for ; i < len(ids) && ids[i]>>16 == high; i++ {
			if i == start || ids[i] != ids[i-1]+1 {
				runs++
			}
		}
		size += 8 + min(2*(i-start), 2+4*runs, 1<<13)
	}
	return size
}
