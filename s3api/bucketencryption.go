package s3api

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"

	"cairn"
	"cairn/object"
	"cairn/sse"
)

// encryptionDoc is a bucket's encryption configuration
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html).
type encryptionDoc struct {
	XMLName xml.Name `xml:"ServerSideEncryptionConfiguration"`
	Rules   []struct {
		Apply *struct {
			SSEAlgorithm   string
			KMSMasterKeyID string
		} `xml:"ApplyServerSideEncryptionByDefault"`
		BucketKeyEnabled string
		Blocked          *struct {
			EncryptionType []string
		} `xml:"BlockedEncryptionTypes"`
	} `xml:"Rule"`
}

func (d *encryptionDoc) rule() (r cairn.EncryptionRule, err error) {
	if len(d.Rules) != 1 {
		return r, errMalformedXML
	}
	in := &d.Rules[0]
	switch in.BucketKeyEnabled {
	case "", "false":
	case "true":
		r.BucketKey = true
	default:
		return r, errMalformedXML
	}
	if in.Blocked != nil {
		for _, kind := range in.Blocked.EncryptionType {
			switch kind {
			case "SSE-C":
				r.RefuseSSEC = true
			case "NONE":
			default:
				return r, errMalformedXML
			}
		}
	}
	if in.Apply == nil {
		if in.Blocked == nil {
			return r, errMalformedXML
		}
		r.Scheme = cairn.SSES3
		return r, nil
	}
	r.Scheme, r.KeyID = cairn.EncryptionScheme(in.Apply.SSEAlgorithm), in.Apply.KMSMasterKeyID
	switch r.Scheme {
	case cairn.SSES3:
		if r.KeyID != "" {
			return r, errInvalidArgument.with("a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
				field{"ArgumentName", "ApplyServerSideEncryptionByDefault"})
		}
	case cairn.SSEKMS:
	case "aws:kms:dsse":
		return r, errNotImplemented.with("Dual-layer encryption is not available: nothing was changed.")
	default:
		return r, errMalformedXML
	}
	return r, nil
}

func (c *call) putBucketEncryption() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d encryptionDoc
	if err := decodeXML(doc, "ServerSideEncryptionConfiguration", &d); err != nil {
		return err
	}
	r, err := d.rule()
	if err != nil {
		return err
	}
	// A rule that no key service can serve would make every later put fail: its author should hear of it. Whether the service has
	// the key is not asked, as in S3: it may come later, and until then what is put is refused.
	if err := c.srv.cfg.Objects.CheckRule(c.r.Context(), r); err != nil && !errors.Is(err, sse.ErrUnknownKey) {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.changeEncryption(string(text), http.StatusOK)
}

func (c *call) deleteBucketEncryption() error {
	if err := c.noBody(); err != nil {
		return err
	}
	return c.changeEncryption("", http.StatusNoContent)
}

// changeEncryption keeps a rule, or drops it ("").
func (c *call) changeEncryption(text string, status int) error {
	_, err := c.srv.cfg.Objects.UpdateBucket(c.r.Context(), c.bucket, func(b *cairn.Bucket) error {
		configs := cairn.Configs{}
		for name, value := range b.Configs {
			configs[name] = value
		}
		if delete(configs, object.EncryptionConfig); text != "" {
			configs[object.EncryptionConfig] = text
		}
		b.Configs = configs
		return nil
	})
	if err != nil {
		return err
	}
	return c.noContent(status)
}

func (c *call) getBucketEncryption() error {
	b, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	r, err := c.srv.cfg.Objects.Rule(b)
	if err != nil {
		return err
	}
	if r.Scheme == "" {
		return missing("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found").
			with("", field{"BucketName", c.bucket})
	}
	return c.render(func(out []byte) []byte {
		out = append(out, `<ServerSideEncryptionConfiguration xmlns="`+xmlNamespace+`"><Rule><ApplyServerSideEncryptionByDefault>`...)
		out = appendElement(out, "SSEAlgorithm", string(r.Scheme))
		if r.KeyID != "" {
			out = appendElement(out, "KMSMasterKeyID", r.KeyID)
		}
		out = append(out, "</ApplyServerSideEncryptionByDefault>"...)
		out = appendBool(out, "BucketKeyEnabled", r.BucketKey)
		if r.RefuseSSEC {
			out = append(out, "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>"...)
		}
		return append(out, "</Rule></ServerSideEncryptionConfiguration>"...)
	})
}
