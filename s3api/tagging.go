package s3api

import (
	"encoding/json"
	"net/http"
	"slices"

	"cairn"
	"cairn/meta"
)

// maxBucketTags is S3's limit for buckets; objects have maxTags.
const maxBucketTags = 50

// tagConfig is the name of a bucket's tags among its sub-resources.
const tagConfig = "tagging"

type taggingDoc struct {
	TagSet *struct {
		Tag []struct{ Key, Value string }
	}
}

func (c *call) getObjectTagging() error {
	ref, err := c.ref()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Head(c.r.Context(), ref)
	if err != nil {
		return err
	}
	if v.DeleteMarker {
		return c.markerNotAllowed(&v)
	}
	c.setVersion(&v)
	return c.render(func(b []byte) []byte { return appendTags(b, v.Tags) })
}

func appendTags(b []byte, tags map[string]string) []byte {
	keys := make([]string, 0, len(tags))
	for k := range tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, `<Tagging xmlns="`+xmlNamespace+`"><TagSet>`...)
	for _, k := range keys {
		b = append(b, "<Tag>"...)
		b = appendElement(b, "Key", k)
		b = appendElement(b, "Value", tags[k])
		b = append(b, "</Tag>"...)
	}
	return append(b, "</TagSet></Tagging>"...)
}

func (c *call) getBucketTagging() error {
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	stored, ok := row.Configs[tagConfig]
	if !ok {
		return missing("NoSuchTagSet", "The TagSet does not exist").with("", field{"BucketName", c.bucket})
	}
	var tags map[string]string
	if err := json.Unmarshal([]byte(stored), &tags); err != nil {
		return &cairn.Error{Op: "s3api.get bucket tagging", Subject: c.bucket, Err: cairn.ErrCorrupt}
	}
	return c.render(func(b []byte) []byte { return appendTags(b, tags) })
}

func (c *call) putBucketTagging() error {
	if err := c.needDigest(); err != nil {
		return err
	}
	tags, err := c.readTags(maxBucketTags)
	if err != nil {
		return err
	}
	stored, err := json.Marshal(tags)
	if err != nil {
		return err
	}
	return c.setConfig(tagConfig, string(stored), http.StatusNoContent)
}

// readTags reads a Tagging document of at most max tags.
func (c *call) readTags(max int) (map[string]string, error) {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return nil, err
	}
	defer release()
	var d taggingDoc
	if err := decodeXML(doc, "Tagging", &d); err != nil {
		return nil, err
	}
	if d.TagSet == nil {
		return nil, errMalformedXML
	}
	tags := make(map[string]string, len(d.TagSet.Tag))
	for _, t := range d.TagSet.Tag {
		if _, twice := tags[t.Key]; twice {
			return nil, errInvalidTag.with("Cannot provide multiple Tags with the same key")
		}
		tags[t.Key] = t.Value
	}
	return tags, checkTags(tags, max)
}

func (c *call) putObjectTagging() error {
	tags, err := c.readTags(maxTags)
	if err != nil {
		return err
	}
	c.tags = tags
	if err := c.mayDo(c.versioned("s3:PutObjectTagging"), c.bucket, c.key); err != nil {
		return err
	}
	return c.changeTags(tags, http.StatusOK)
}

func (c *call) deleteObjectTagging() error {
	if err := c.noBody(); err != nil {
		return err
	}
	return c.changeTags(nil, http.StatusNoContent)
}

// changeTags replaces the tags of the version that the request names, in one commit.
func (c *call) changeTags(tags map[string]string, status int) error {
	ref, err := c.ref()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Update(c.r.Context(), meta.UpdateVersion{Ref: ref, Change: func(_ cairn.Bucket, v *cairn.Version) error {
		if v.DeleteMarker {
			return c.markerNotAllowed(v)
		}
		v.Tags = tags
		return nil
	}})
	if err != nil {
		return err
	}
	c.setVersion(&v)
	return c.noContent(status)
}

func (c *call) deleteBucketTagging() error {
	return c.setConfig(tagConfig, "", http.StatusNoContent)
}

// setConfig changes one of a bucket's sub-resources, "" for none, in one commit, and answers with the status.
func (c *call) setConfig(name, value string, status int) error {
	_, err := c.srv.cfg.Objects.UpdateBucket(c.r.Context(), c.bucket, func(b *cairn.Bucket) error {
		configs := make(cairn.Configs, len(b.Configs)+1)
		for k, v := range b.Configs {
			configs[k] = v
		}
		if configs[name] = value; value == "" {
			delete(configs, name)
		}
		b.Configs = configs
		return nil
	})
	c.srv.accesses.forget(c.bucket)
	if err != nil {
		return err
	}
	return c.noContent(status)
}
