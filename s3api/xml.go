package s3api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"time"
	"unicode/utf8"
)

const (
	xmlHeader    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
)

// appendElement appends <name>text</name>.
func appendElement(b []byte, name, text string) []byte {
	b = append(b, '<')
	b = append(b, name...)
	b = append(b, '>')
	b = appendText(b, text)
	b = append(b, '<', '/')
	b = append(b, name...)
	return append(b, '>')
}

func appendBool(b []byte, name string, v bool) []byte {
	if v {
		return appendElement(b, name, "true")
	}
	return appendElement(b, name, "false")
}

func appendInt(b []byte, name string, v int64) []byte { return appendElement(b, name, itoa(v)) }

// appendText appends text escaped. Control characters, which XML 1.0 cannot carry in any form, are written as references
// all the same: that is what S3 does, and encoding-type=url is there for clients whose parser minds.
func appendText(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '&' && c != '<' && c != '>' && c != '"' && c < utf8.RuneSelf {
			continue
		}
		if c >= utf8.RuneSelf {
			if _, size := utf8.DecodeRuneInString(s[i:]); size > 1 {
				i += size - 1
				continue
			}
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, c)
		start = i + 1
	}
	return append(b, s[start:]...)
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '&':
		return append(b, "&amp;"...)
	case '<':
		return append(b, "&lt;"...)
	case '>':
		return append(b, "&gt;"...)
	case '"':
		return append(b, "&quot;"...)
	}
	if c >= utf8.RuneSelf {
		return append(b, "\uFFFD"...) // not UTF-8: nothing that we store, but an error message may quote it
	}
	const digits = "0123456789abcdef"
	b = append(b, "&#x"...)
	if c > 15 {
		b = append(b, digits[c>>4])
	}
	return append(b, digits[c&15], ';')
}

// timeFormat is S3's ISO 8601 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(b, '<')
	b = append(b, name...)
	b = append(b, '>')
	b = t.UTC().AppendFormat(b, timeFormat)
	b = append(b, '<', '/')
	b = append(b, name...)
	return append(b, '>')
}

// appendETag appends an entity tag, whose quotes S3 escapes.
func appendETag(b []byte, etag string) []byte {
	b = append(b, "<ETag>&quot;"...)
	b = appendText(b, etag)
	return append(b, "&quot;</ETag>"...)
}

const (
	maxXMLDepth    = 16      // S3's request documents are five levels deep
	maxXMLElements = 100_000 // 10,000 parts with all that may be said of each
)

// decodeXML reads a request document into v. Documents that nest deeper than any of S3's, declare a DOCTYPE (and with it
// entities), or do not have the named root are refused.
func decodeXML(doc []byte, root string, v any) error {
	inner := xml.NewDecoder(bytes.NewReader(doc))
	bounded := &boundedTokens{d: inner, root: root}
	d := xml.NewTokenDecoder(bounded)
	if err := d.Decode(v); err != nil {
		return errMalformedXML
	}
	for { // nothing but blanks and comments may follow
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errMalformedXML
		}
		switch t := tok.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return errMalformedXML
			}
		case xml.Comment:
		default:
			return errMalformedXML
		}
	}
}

// boundedTokens is a token stream that ends with an error at the first thing that a request may not have.
type boundedTokens struct {
	d        *xml.Decoder
	root     string
	depth    int
	elements int
}

var errXMLBounds = errors.New("document is deeper or longer than allowed, has another root, or declares a type")

// Token implements xml.TokenReader.
func (b *boundedTokens) Token() (xml.Token, error) {
	tok, err := b.d.RawToken()
	if err != nil {
		return tok, err
	}
	switch t := tok.(type) {
	case xml.StartElement:
		if b.depth == 0 && t.Name.Local != b.root {
			return nil, errXMLBounds
		}
		b.depth++
		b.elements++
		if b.depth > maxXMLDepth || b.elements > maxXMLElements {
			return nil, errXMLBounds
		}
	case xml.EndElement:
		b.depth--
	case xml.Directive:
		return nil, errXMLBounds
	}
	return tok, nil
}
