package remoteread

import (
	"encoding/binary"

	"github.com/golang/snappy"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
)

// message is a ReadResponse in the making. Its memory is reserved from the budget.
type message struct {
	budget     *memory.Budget
	maxSamples int

	done    []byte // results which have ended
	result  []byte // the current one, without its length, which comes first
	samples int
	held    int64

	histograms []byte // scratch: those of a series
}

// add appends a series to the current result.
func (m *message) add(labels []model.Label, s *found) error {
	m.samples += len(s.values) + s.histograms.Len()
	if m.maxSamples > 0 && m.samples > m.maxSamples {
		return errkind.New(errkind.Unprocessable, "cannot answer a remote read with more than %d samples in one message; let the client accept STREAMED_XOR_CHUNKS, select fewer series, "+
			"shorten the range, or raise -search.maxRemoteReadSamples", m.maxSamples)
	}
	histograms, err := appendHistograms(m.histograms[:0], &s.histograms)
	m.histograms = histograms
	if err != nil {
		return err
	}
	if err := m.hold(len(m.done) + len(m.result) + sizeOfLabels(labels) + maxSampleBytes*len(s.values) + 2*len(histograms)); err != nil {
		return err
	}
	m.result = appendSeries(m.result, labels, s.times, s.values, histograms)
	return nil
}

// maxSampleBytes is the most that a sample takes in a message.
const maxSampleBytes = 24

// hold makes sure that there is room in the budget for n bytes, three times: slices grow by copying, and a result is copied to its message.
func (m *message) hold(n int) error {
	const step = 1 << 20
	need := 3 * int64(n)
	if need <= m.held {
		return nil
	}
	more := max(need-m.held, step)
	if err := m.budget.ReserveMore(more, m.held, "the answer to a remote read"); err != nil {
		return err
	}
	m.held += more
	return nil
}

func (m *message) release() { m.budget.Release(m.held) }

// endResult ends the result of a query.
func (m *message) endResult() {
	m.done = append(m.done, 1<<3|wireBytes)
	m.done = binary.AppendUvarint(m.done, uint64(len(m.result)))
	m.done = append(m.done, m.result...)
	m.result = m.result[:0]
}

// pack returns the compressed message.
func (m *message) pack() ([]byte, error) {
	n := snappy.MaxEncodedLen(len(m.done))
	if n < 0 {
		return nil, errkind.New(errkind.Unprocessable, "cannot answer a remote read with %d bytes in one message, which is more than snappy can pack; let the client accept STREAMED_XOR_CHUNKS", len(m.done))
	}
	m.result = nil
	if err := m.hold(len(m.done)); err != nil { // the compressed bytes take the place of the result
		return nil, err
	}
	return snappy.Encode(nil, m.done), nil
}
