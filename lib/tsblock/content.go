package tsblock

import (
	"vmcluster/lib/codec"
	"vmcluster/lib/model"
)

// Content is what the values of a block are. Blocks of one series which differ in it stand side by side and are never
// merged with each other by time.
type Content uint8

// The contents. Their numbers are part of the formats of files and of the select protocol.
const (
	Raw  Content = 0 // every sample that was taken
	Kept Content = 1 // the samples that downsampling has left; real ones
	// Columns with one value per interval of downsampling, at the time of its last number.
	Min   Content = 2
	Max   Content = 3
	Sum   Content = 4
	Count Content = 5

	contents = 6 // those of numbers

	Histograms Content = 6 // native histograms instead of values
)

// contentMark is set in the first byte of a column of values which is not Raw. That byte has the content in its low bits, and
// the column as the codec wrote it follows.
const contentMark = 0x80

// Content returns what the values of the block are. It takes no decoding.
func (b *Block) Content() Content {
	if len(b.Values) == 0 || b.Values[0]&contentMark == 0 {
		return Raw
	}
	return Content(b.Values[0] &^ contentMark)
}

// column returns the column of values as the codec knows it.
func (b *Block) column() []byte {
	switch c := b.Content(); {
	case c == Raw:
		return b.Values
	case c >= contents:
		return nil // which the codec refuses
	}
	return b.Values[1:]
}

// Serves reports whether blocks of this content are part of the answer to a search for the aspect. Raw samples
// serve all aspects: each is the lowest, highest and sum of itself. Native histograms serve none.
func (c Content) Serves(a model.Aspect) bool {
	if c == Raw {
		return true
	}
	switch a {
	case model.AspectSamples:
		return c == Kept
	case model.AspectMin:
		return c == Min
	case model.AspectMax:
		return c == Max
	case model.AspectSum:
		return c == Sum
	case model.AspectCount:
		return c == Count
	case model.AspectMean:
		return c == Sum || c == Count
	}
	return false
}

// AppendContent is AppendEncode for samples of any content.
func (e *Encoder) AppendContent(dst []byte, s *Samples, c Content) ([]byte, Block) {
	dst, b := e.AppendEncode(dst, s)
	if c == Raw {
		return dst, b
	}
	start := len(dst)
	dst = append(append(dst, contentMark|byte(c)), b.Values...)
	b.Values = dst[start:len(dst):len(dst)]
	return dst, b
}

// Facts returns what is known of the values of the block. It takes no decoding.
func (b *Block) Facts() Facts { return codec.ValuesFacts(b.column()) }
