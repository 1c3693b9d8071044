package otlp

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// field is a field of a message: its number, type, and value as a number or bytes.
type field struct {
	number protowire.Number
	wire   protowire.Type
	bits   uint64
	bytes  []byte
}

func (f *field) text() string   { return bytesutil.String(f.bytes) }
func (f *field) float() float64 { return math.Float64frombits(f.bits) }
func (f *field) signed() int32  { return int32(protowire.DecodeZigZag(f.bits & math.MaxUint32)) }

// message reports whether it is the message, text or list with a number.
func (f *field) message(number protowire.Number) bool {
	return f.number == number && f.wire == protowire.BytesType
}

// fixed reports whether it is the 64-bit number with a number.
func (f *field) fixed(number protowire.Number) bool {
	return f.number == number && f.wire == protowire.Fixed64Type
}

// varint reports whether it is the number of variable size with a number.
func (f *field) varint(number protowire.Number) bool {
	return f.number == number && f.wire == protowire.VarintType
}

// fields calls use with the fields of a message, up to the first error. Fields are passed by value, so that none is allocated.
func fields(b []byte, use func(f field) error) error {
	var f field
	for len(b) > 0 {
		n := f.read(b)
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		if err := use(f); err != nil {
			return err
		}
	}
	return nil
}

// read reads a field and returns its size; a negative one is an error of protowire.
func (f *field) read(b []byte) int {
	if n := f.readShort(b); n > 0 {
		return n
	}
	number, wire, tag := protowire.ConsumeTag(b)
	if tag < 0 {
		return tag
	}
	*f = field{number: number, wire: wire}
	n := 0
	switch wire {
	case protowire.VarintType:
		f.bits, n = protowire.ConsumeVarint(b[tag:])
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(b[tag:])
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b[tag:])
	default:
		n = protowire.ConsumeFieldValue(number, wire, b[tag:])
	}
	if n < 0 {
		return n
	}
	return tag + n
}

// readShort is read for what nearly all fields are: those with a tag of one byte, and a size of up to two. It returns 0 for others, and for bad ones.
func (f *field) readShort(b []byte) int {
	if len(b) < 3 || b[0] >= 0x80 || b[0]>>3 == 0 {
		return 0
	}
	f.number, f.wire = protowire.Number(b[0]>>3), protowire.Type(b[0]&7)
	switch f.wire {
	case protowire.BytesType:
		start, size := 2, int(b[1])
		if size >= 0x80 {
			if b[2] >= 0x80 {
				return 0
			}
			start, size = 3, size&0x7f|int(b[2])<<7
		}
		if size > len(b)-start {
			return 0
		}
		f.bits, f.bytes = 0, b[start:start+size]
		return start + size
	case protowire.Fixed64Type:
		if len(b) < 9 {
			return 0
		}
		f.bits, f.bytes = binary.LittleEndian.Uint64(b[1:]), nil
		return 9
	case protowire.VarintType:
		if b[1] >= 0x80 {
			return 0
		}
		f.bits, f.bytes = uint64(b[1]), nil
		return 2
	}
	return 0
}

func malformed(n int) error {
	return errkind.New(errkind.BadRequest, "cannot decode OTLP request: %w", protowire.ParseError(n))
}

// messages calls use with the messages of the given number.
func messages(b []byte, number protowire.Number, use func(b []byte) error) error {
	return fields(b, func(f field) error {
		if f.message(number) {
			return use(f.bytes)
		}
		return nil
	})
}

// appendFixed appends the 64-bit numbers of a field: a packed list, or one of them.
func appendFixed[T any](dst []T, f *field, number func(bits uint64) T) ([]T, error) {
	if f.wire != protowire.BytesType {
		return append(dst, number(f.bits)), nil
	}
	for list := f.bytes; len(list) > 0; list = list[8:] {
		bits, n := protowire.ConsumeFixed64(list)
		if n < 0 {
			return dst, malformed(n)
		}
		dst = append(dst, number(bits))
	}
	return dst, nil
}

// appendVarints appends the numbers of variable size of a field: a packed list, or one of them.
func appendVarints(dst []uint64, f *field) ([]uint64, error) {
	if f.wire != protowire.BytesType {
		return append(dst, f.bits), nil
	}
	for list := f.bytes; len(list) > 0; {
		v, n := protowire.ConsumeVarint(list)
		if n < 0 {
			return dst, malformed(n)
		}
		dst, list = append(dst, v), list[n:]
	}
	return dst, nil
}
