package remoteread

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/bits"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"vmcluster/lib/model"
)

// Chunks have as many samples as those of Prometheus.
const samplesPerChunk = 120

// frameBytes is the size from which on the chunks of a series go to one more frame. Prometheus allows
// its clients to refuse frames of more than 50 MB.
const frameBytes = 1 << 20

// chunk is an encoded run of samples.
type chunk struct {
	minTime, maxTime int64
	encoding         chunkenc.Encoding // whose numbers are those of the protocol
	data             []byte
}

// encodeChunks cuts samples into XOR chunks.
func encodeChunks(dst []chunk, times []int64, values []float64) ([]chunk, error) {
	for len(times) > 0 {
		n := min(len(times), samplesPerChunk)
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return nil, err
		}
		for i, t := range times[:n] {
			app.Append(0, t, values[i])
		}
		dst = append(dst, chunk{minTime: times[0], maxTime: times[n-1], encoding: chunkenc.EncXOR, data: c.Bytes()})
		times, values = times[n:], values[n:]
	}
	return dst, nil
}

// appendFrames appends a series as frames with one ChunkedReadResponse each: its labels and a few chunks.
func appendFrames(dst []byte, query int, labels []model.Label, chunks []chunk) []byte {
	front := sizeOfLabels(labels)
	for first := true; first || len(chunks) > 0; first = false {
		n, size := 0, front
		for n < len(chunks) && (n == 0 || size < frameBytes) {
			size += sizeOfMessage(sizeOfChunk(&chunks[n]))
			n++
		}
		dst = appendFrame(dst, query, labels, chunks[:n], size)
		chunks = chunks[n:]
	}
	return dst
}

// appendFrame appends length, checksum and message. Size is that of the series in it.
func appendFrame(dst []byte, query int, labels []model.Label, chunks []chunk, size int) []byte {
	total := sizeOfMessage(size)
	if query > 0 {
		total += 1 + sizeOfVarint(uint64(query))
	}
	dst = binary.AppendUvarint(dst, uint64(total))
	sum := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	start := len(dst)
	dst = appendLength(dst, 1, size)
	dst = appendLabels(dst, labels)
	for i := range chunks {
		c := &chunks[i]
		dst = appendLength(dst, 2, sizeOfChunk(c))
		dst = appendInt(dst, 1, c.minTime)
		dst = appendInt(dst, 2, c.maxTime)
		dst = appendInt(dst, 3, int64(c.encoding))
		dst = append(appendLength(dst, 4, len(c.data)), c.data...)
	}
	dst = appendInt(dst, 2, int64(query))
	binary.BigEndian.PutUint32(dst[sum:], crc32.Checksum(dst[start:], crc32.MakeTable(crc32.Castagnoli)))
	return dst
}

func sizeOfChunk(c *chunk) int {
	return sizeOfInt(c.minTime) + sizeOfInt(c.maxTime) + sizeOfInt(int64(c.encoding)) + sizeOfMessage(len(c.data))
}

// appendSeries appends a series of a QueryResult with its samples, and with its histograms, which are encoded already.
func appendSeries(dst []byte, labels []model.Label, times []int64, values []float64, histograms []byte) []byte {
	size := sizeOfLabels(labels) + len(histograms)
	for i, t := range times {
		size += sizeOfMessage(sizeOfSample(t, values[i]))
	}
	dst = appendLength(dst, 1, size)
	dst = appendLabels(dst, labels)
	for i, t := range times {
		dst = appendLength(dst, 2, sizeOfSample(t, values[i]))
		if b := math.Float64bits(values[i]); b != 0 {
			dst = append(dst, 1<<3|wireFixed64)
			dst = binary.LittleEndian.AppendUint64(dst, b)
		}
		dst = appendInt(dst, 2, t)
	}
	return append(dst, histograms...)
}

func sizeOfSample(t int64, v float64) int {
	if math.Float64bits(v) == 0 { // which the message leaves out
		return sizeOfInt(t)
	}
	return 9 + sizeOfInt(t)
}

func appendLabels(dst []byte, labels []model.Label) []byte {
	for _, l := range labels {
		dst = appendLength(dst, 1, sizeOfLabel(l))
		dst = append(appendLength(dst, 1, len(l.Name)), l.Name...)
		dst = append(appendLength(dst, 2, len(l.Value)), l.Value...)
	}
	return dst
}

func sizeOfLabel(l model.Label) int { return sizeOfMessage(len(l.Name)) + sizeOfMessage(len(l.Value)) }

func sizeOfLabels(labels []model.Label) int {
	n := 0
	for _, l := range labels {
		n += sizeOfMessage(sizeOfLabel(l))
	}
	return n
}

// appendLength starts a field of bytes. Field numbers are below 16 everywhere here, so a key is one byte.
func appendLength(dst []byte, number byte, n int) []byte {
	return binary.AppendUvarint(append(dst, number<<3|wireBytes), uint64(n))
}

// appendInt appends a varint field, or nothing for 0.
func appendInt(dst []byte, number byte, v int64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, number<<3|wireVarint), uint64(v))
}

func sizeOfInt(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + sizeOfVarint(uint64(v))
}

// sizeOfMessage returns the size of a field of n bytes.
func sizeOfMessage(n int) int { return 1 + sizeOfVarint(uint64(n)) + n }

func sizeOfVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
