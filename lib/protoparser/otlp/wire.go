package otlp

import (
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

// fields calls use with the fields of a message, up to the first error.
func fields(b []byte, use func(f *field) error) error {
	var f field
	for len(b) > 0 {
		n := f.read(b)
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		if err := use(&f); err != nil {
			return err
		}
	}
	return nil
}

// read reads a field and returns its size; a negative one is an error of protowire.
func (f *field) read(b []byte) int {
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

func malformed(n int) error {
	return errkind.New(errkind.BadRequest, "cannot decode OTLP request: %w", protowire.ParseError(n))
}

// messages calls use with the messages of the given number.
func messages(b []byte, number protowire.Number, use func(b []byte) error) error {
	return fields(b, func(f *field) error {
		if f.message(number) {
			return use(f.bytes)
		}
		return nil
	})
}

// numbers calls add with the numbers of a field: a packed list, or one of them.
func (f *field) numbers(consume func(b []byte) (uint64, int), add func(bits uint64)) error {
	if f.wire != protowire.BytesType {
		add(f.bits)
		return nil
	}
	for list := f.bytes; len(list) > 0; {
		v, n := consume(list)
		if n < 0 {
			return malformed(n)
		}
		add(v)
		list = list[n:]
	}
	return nil
}
