package mount

import (
	"fmt"
	"net/url"
	"strings"
)

// A key is shown at the path that it spells if every segment between slashes can be a name: it is not empty, ".", or "..",
// has no NUL and at most 255 bytes. An object whose key is also a directory (`a` beside `a/b`), or ends in "/", is not shown
// at its path either. All objects, these among them, are to be had at
//
//	.cairn/key/ESCAPED
//
// in the root of the mount, where ESCAPED is the key with every byte but letters, digits, "-", "_", "." and "~" written as
// %XX. An escaped key of more than 200 bytes is cut into directories of 200 bytes each. ".cairn" cannot be listed, and hides
// keys that begin with ".cairn/": those are to be had there too.
const (
	specialName = ".cairn"
	keysName    = "key"
	escapedPart = 200
	maxName     = 255
	maxKey      = 1024 // S3's bound
)

// plain tells whether a segment of a key can be a name.
func plain(segment string) bool {
	return segment != "" && segment != "." && segment != ".." && len(segment) <= maxName && strings.IndexByte(segment, 0) < 0
}

// EscapedPath is the path of a key below the mount's root that holds for every key.
func EscapedPath(key string) string {
	var b strings.Builder
	for i := range len(key) {
		c := key[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	path, rest := specialName+"/"+keysName, b.String()
	if rest == "." || rest == ".." {
		rest = strings.ReplaceAll(rest, ".", "%2E")
	}
	for len(rest) > escapedPart {
		path += "/" + rest[:escapedPart]
		rest = rest[escapedPart:]
	}
	return path + "/" + rest
}

// unescape reads what EscapedPath wrote, the parts joined.
func unescape(s string) (key string, ok bool) {
	key, err := url.PathUnescape(s)
	return key, err == nil && key != ""
}
