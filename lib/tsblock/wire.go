package tsblock

import (
	"fmt"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// AppendTo appends the block as it travels between nodes: header and both
// columns. Protocols that carry blocks bring their own version and checksum.
func (b *Block) AppendTo(dst []byte) []byte {
	dst = codec.AppendVarint(dst, b.MinTimestamp)
	dst = codec.AppendUvarint(dst, uint64(b.MaxTimestamp)-uint64(b.MinTimestamp))
	dst = codec.AppendUvarint(dst, uint64(b.Count))
	dst = codec.AppendBytes(dst, b.Timestamps)
	return codec.AppendBytes(dst, b.Values)
}

// UnmarshalBlock reads what AppendTo wrote from the front of src. The columns
// alias src. An error is of kind Corrupt; dst is then undefined.
func UnmarshalBlock(src []byte, dst *Block) (tail []byte, err error) {
	if dst.MinTimestamp, tail, err = codec.CutVarint(src); err != nil {
		return src, errUnmarshal(err)
	}
	var span, count uint64
	if span, tail, err = codec.CutUvarint(tail); err != nil {
		return src, errUnmarshal(err)
	}
	if count, tail, err = codec.CutUvarint(tail); err != nil {
		return src, errUnmarshal(err)
	}
	dst.MaxTimestamp = int64(uint64(dst.MinTimestamp) + span)
	if count == 0 || count > MaxSamplesPerBlock || dst.MaxTimestamp < dst.MinTimestamp {
		return src, errkind.New(errkind.Corrupt, "cannot read block with %d samples from %d to %d: want 1 to %d samples and a time range",
			count, dst.MinTimestamp, dst.MaxTimestamp, MaxSamplesPerBlock)
	}
	dst.Count = int(count)
	if dst.Timestamps, tail, err = codec.CutBytes(tail); err != nil {
		return src, errUnmarshal(err)
	}
	if dst.Values, tail, err = codec.CutBytes(tail); err != nil {
		return src, errUnmarshal(err)
	}
	return tail, nil
}

func errUnmarshal(cause error) error {
	return errkind.New(errkind.Corrupt, "cannot read block: %w", cause)
}

// String renders the header for messages.
func (b *Block) String() string {
	return fmt.Sprintf("%s with %d samples", model.TimeRange{Min: b.MinTimestamp, Max: b.MaxTimestamp}, b.Count)
}
