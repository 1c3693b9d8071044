package tsdump

import (
	"encoding/binary"
	"slices"

	"vmcluster/lib/codec"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	magic = "tsdump\n" // a byte with the version follows
	// Dumps of the second version may have native histograms.
	plainVersion     = 1
	histogramVersion = 2

	kindEnd    = 0
	kindSeries = 1

	// A series is split into records of about this size.
	recordBytes = 1 << 20
	// Readers take no larger records. Labels are at most 1 MiB, blocks at most some 150 KiB.
	maxRecordBytes = 4 << 20
)

// Writer makes a dump: the header, any number of series, the end. It belongs to one goroutine; the zero value is ready to use.
//
// At the first native histogram it ends the dump and goes on with one of the second version, which readers of the first refuse.
type Writer struct {
	payload []byte // scratch
	sum     uint32 // of the record before
	records uint64
	version byte
}

// AppendHeader begins a dump.
func (w *Writer) AppendHeader(dst []byte) []byte { return w.begin(dst, plainVersion) }

func (w *Writer) begin(dst []byte, version byte) []byte {
	start := len(dst)
	dst = append(append(dst, magic...), version)
	w.sum, w.records, w.version = codec.Checksum(dst[start:]), 0, version
	return dst
}

func hasHistograms(blocks []tsblock.Block) bool {
	return slices.ContainsFunc(blocks, func(b tsblock.Block) bool { return b.Content() == tsblock.Histograms })
}

// AppendSeries appends the series; nothing if it has no blocks.
func (w *Writer) AppendSeries(dst []byte, labels []model.Label, blocks []tsblock.Block) []byte {
	if w.version == plainVersion && hasHistograms(blocks) {
		dst = w.begin(w.AppendEnd(dst), histogramVersion)
	}
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
