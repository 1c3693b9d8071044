package otlp

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// A value of an attribute is a string, bool, int64, float64, []any, an object, or nil when there is none.
type object []member

// member is a key of an object with its value.
type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler. Keys stay in their order.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		for j, part := range [2]any{m.key, m.value} {
			text, err := json.Marshal(part)
			if err != nil {
				return nil, err
			}
			if b = append(b, text...); j == 0 {
				b = append(b, ':')
			}
		}
	}
	return append(b, '}'), nil
}

// maxDepth is how deep values may nest.
const maxDepth = 16

// appendLabels appends the labels of an attribute: one, or one for each key of an object. Lists are labels as JSON.
func appendLabels(dst []model.Label, key string, value any) ([]model.Label, error) {
	text := ""
	switch v := value.(type) {
	case nil:
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case int64:
		text = strconv.FormatInt(v, 10)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	case object:
		for _, m := range v {
			var err error
			if dst, err = appendLabels(dst, key+"."+m.key, m.value); err != nil {
				return dst, err
			}
		}
		return dst, nil
	default:
		data, err := json.Marshal(value)
		if err != nil {
			return dst, errkind.New(errkind.BadRequest, "cannot make a label of attribute %.100q: %w", key, err)
		}
		text = string(data)
	}
	return append(dst, model.Label{Name: key, Value: text}), nil
}

// appendAttribute appends the labels of a KeyValue.
func appendAttribute(dst *[]model.Label, b []byte) error {
	key, raw, err := keyValue(b)
	if err != nil {
		return err
	}
	var f field
	if n := f.read(raw); n == len(raw) && f.message(1) { // a string, as nearly all of them
		*dst = append(*dst, model.Label{Name: key, Value: f.text()})
		return nil
	}
	value, err := decodeValue(raw, 0)
	if err == nil {
		*dst, err = appendLabels(*dst, key, value)
	}
	return err
}

func keyValue(b []byte) (key string, value []byte, err error) {
	err = fields(b, func(f field) error {
		switch {
		case f.message(1):
			key = f.text()
		case f.message(2):
			value = f.bytes
		}
		return nil
	})
	return key, value, err
}

// decodeValue reads an AnyValue.
func decodeValue(b []byte, depth int) (value any, err error) {
	if depth > maxDepth {
		return nil, errDepth()
	}
	err = fields(b, func(f field) error {
		switch {
		case f.message(1):
			value = f.text()
		case f.varint(2):
			value = f.bits != 0
		case f.varint(3):
			value = int64(f.bits)
		case f.fixed(4):
			value = number(f.float())
		case f.message(5):
			value, err = decodeList(f.bytes, depth)
			return err
		case f.message(6):
			value, err = decodeObject(f.bytes, depth)
			return err
		case f.message(7):
			value = base64.StdEncoding.EncodeToString(f.bytes)
		}
		return nil
	})
	return value, err
}

func decodeList(b []byte, depth int) (any, error) {
	list := []any{}
	err := messages(b, 1, func(item []byte) error {
		if len(list) == protoparser.MaxLabels {
			return errElements()
		}
		value, err := decodeValue(item, depth+1)
		list = append(list, value)
		return err
	})
	return list, err
}

func decodeObject(b []byte, depth int) (any, error) {
	o := object{}
	err := messages(b, 1, func(pair []byte) error {
		if len(o) == protoparser.MaxLabels {
			return errElements()
		}
		key, raw, err := keyValue(pair)
		if err != nil {
			return err
		}
		value, err := decodeValue(raw, depth+1)
		o = append(o, member{key, value})
		return err
	})
	return o, err
}

// errElements is about what takes many times the memory of the request.
func errElements() error {
	return errkind.New(errkind.BadRequest, "cannot decode OTLP request: the value of an attribute has more than %d elements", protoparser.MaxLabels)
}

func errDepth() error {
	return errkind.New(errkind.BadRequest, "cannot decode OTLP request: the value of an attribute nests deeper than %d", maxDepth)
}

// number is a float as a value. JSON has neither NaN nor infinities, so these are strings.
func number(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return v
}
