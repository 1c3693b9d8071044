package tsdump

import (
	"encoding/binary"

	"vmcluster/lib/codec"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	header = "tsdump\n\x01" // the last byte is the version

	kindEnd    = 0
	kindSeries = 1

	// A series is split into records of about this size.
	recordBytes = 1 << 20
	// Readers take no larger records. Labels are at most 1 MiB, blocks at most some 150 KiB.
	maxRecordBytes = 4 << 20
)

// Writer makes a dump: the header, any number of series, the end. It belongs to one goroutine; the zero value is ready to use.
type Writer struct {
	payload []byte // scratch
	sum     uint32 // of the record before
	records uint64
}

// AppendHeader begins a dump.
func (w *Writer) AppendHeader(dst []byte) []byte {
	w.sum, w.records = codec.Checksum([]byte(header)), 0
	return append(dst, header...)
}

// AppendSeries appends the series; nothing if it has no blocks.
func (w *Writer) AppendSeries(dst []byte, labels []model.Label, blocks []tsblock.Block) []byte {
	for len(blocks) > 0 {
		n, size := 0, 0
		for n < len(blocks) && (n == 0 || size < recordBytes) {
			size += len(blocks[n].Timestamps) + len(blocks[n].Values)
			n++
		}
		w.payload = append(w.payload[:0], kindSeries)
		w.payload = codec.AppendUvarint(w.payload, uint64(len(labels)))
		for _, l := range labels {
			w.payload = codec.AppendUvarint(w.payload, uint64(len(l.Name)))
			w.payload = append(w.payload, l.Name...)
			w.payload = codec.AppendUvarint(w.payload, uint64(len(l.Value)))
			w.payload = append(w.payload, l.Value...)
		}
		w.payload = codec.AppendUvarint(w.payload, uint64(n))
		for i := range blocks[:n] {
			w.payload = blocks[i].AppendTo(w.payload)
		}
		dst = w.appendRecord(dst)
		w.records++
		blocks = blocks[n:]
	}
	return dst
}

// AppendEnd ends the dump.
func (w *Writer) AppendEnd(dst []byte) []byte {
	w.payload = codec.AppendUvarint(append(w.payload[:0], kindEnd), w.records)
	return w.appendRecord(dst)
}

func (w *Writer) appendRecord(dst []byte) []byte {
	w.sum = codec.UpdateChecksum(w.sum, w.payload)
	dst = codec.AppendUvarint(dst, uint64(len(w.payload)))
	dst = append(dst, w.payload...)
	return binary.LittleEndian.AppendUint32(dst, w.sum)
}
