"""SCIM 2.0 (RFC 7643, 7644, 9865) as a library, without I/O."""
