package protoparser

import (
	"bytes"
	"fmt"

	"github.com/valyala/fastjson"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// BodyOptions say what is particular to a format whose bodies are read whole.
type BodyOptions struct {
	Counters  *Counters
	MaxSize   int64  // bytes, after decompression
	LimitName string // of MaxSize, for messages
	What      string // what the body is, for messages
	Opening   byte   // the bracket which a JSON body begins with; 0: any
}

// ReadWhole reads and counts the body of a request, which the caller gives back with Bodies.Put. Errors are of kind BadRequest or TooLarge.
func (in *Intake) ReadWhole(req *Request, o *BodyOptions) (*bytesutil.Buffer, error) {
	o.Counters.ReadCalls.Inc()
	body, err := in.Bodies.ReadAll(req.Body, req.Encoding, o.MaxSize, o.LimitName)
	if err != nil {
		o.Counters.ReadErrors.Inc()
	}
	return body, err
}

// ReadJSON is ReadWhole for a body which is to be JSON. A body which is not gives an error of kind BadRequest.
func (in *Intake) ReadJSON(req *Request, o *BodyOptions) (*bytesutil.Buffer, error) {
	body, err := in.ReadWhole(req, o)
	if err != nil {
		return nil, err
	}
	err = ValidateJSON(body.B)
	if err == nil && o.Opening != 0 && NewJSONScanner(body.B).Next() != o.Opening {
		err = fmt.Errorf("it does not begin with %c", o.Opening)
	}
	if err != nil {
		in.Bodies.Put(body)
		o.Counters.UnmarshalErrors.Inc()
		return nil, errkind.New(errkind.BadRequest, "cannot parse %s as JSON: %.300s; nothing of it is stored", o.What, err)
	}
	return body, nil
}

// maxJSONDepth is how deep arrays and objects may be nested. The parsers of JSON call themselves at each level, so that without a limit a small body
// could use up the stack, which ends the process.
const maxJSONDepth = 100

// ValidateJSON returns what is wrong with a text which is to be JSON, or nil.
func ValidateJSON(b []byte) error {
	if !isShallow(b) {
		return fmt.Errorf("arrays and objects are nested deeper than %d levels", maxJSONDepth)
	}
	return fastjson.ValidateBytes(b)
}

// isShallow reports whether a text, which may be no JSON, is nested up to maxJSONDepth levels.
func isShallow(b []byte) bool {
	if bytes.Count(b, []byte{'['})+bytes.Count(b, []byte{'{'}) <= maxJSONDepth {
		return true
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			i = endOfText(b, i)
		case c|0x20 == '{': // or [
			if depth++; depth > maxJSONDepth {
				return false
			}
		case c|0x20 == '}':
			depth--
		}
	}
	return true
}

// endOfText returns where the string which begins at b[i] has its closing quote, at the earliest len(b) when it has none.
func endOfText(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}
