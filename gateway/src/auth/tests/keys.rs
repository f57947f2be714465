//! Keys for tests, made with openssl for this file and good for nothing else, and tokens signed with them.
//!
//! **Invariant:** a token is made of exactly the texts that a test gives, so that it can be wrong in any way.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value as Json, json};

/// RSA, 2048 bits, PKCS#1.
const RSA: &str = "\
    MIIEpAIBAAKCAQEA2ZXujkkzEcgdRQvva//aGC8SCgWMj8GlcB6WfAdN8pq66M0JoaQnWGlgYH86rkxZUQ/yugraUHFQhiC9ugorF3Yn+7ThXm\
    +evnEYDBOkS9pPgDdsNeff+BZ10s/+xZPMDnzMcPelrGov/Cjnsbrhile5SD99qzXGeJDAn36Z2d4wgU0q9/KzvV1sgra8oyll5sZ7h273SSDt\
    8pC+CkRBboKZOQUMY3MCW0iN1Kiq/deFDArswzUXNKS7k4umkK9A/APcCW6j+vmyZS0qQToHYHoVQwNBw9G/+ZqPPpgUhXVE3fAV/7gGc15HE4\
    hAVKZgEyySC0m2BzQpG+M6tR4T7wIDAQABAoIBACMQ+MtRnLtm5uCz1bgwGbQAEgYvcsHQUZtKMrJ2cueAbFMMiFrWm8ix4uhqWMiyYUqhKVs2\
    WIzSVknniOwsq1kyn6r/MbsIfirvCxMXL0lSO7HMPNJLNltDM2XwQ30QHrjPABvMrZSl4GnhJcYM+kBTdvbf1J79IalYmtKZkq37xud/4SuYHo\
    RWmNuS1n2gcWBhTCrtx0oEXAXfOMSN6/8ayauvlt4r5AAf2HaPZyQzjUjfYlwnBG1MPHpDcAxZZWQKq1CSgVmMS/A1JTruG1FPdZthAH5ilZeS\
    zUBD7k0rdm/WYRnMaFf1SW0GwXkAjsalet6lx3Fcxyy9ALAN1XECgYEA99IT0tPuSvO3asLflD5xzPmatI+/j8B+OjCpoLweUrQU64ybsUtzsQ\
    EIDNLo0xbQgM5FDr4DO/uSJi5Z7JiZ0VO8NKBZ9k9GRs0kBlLyTCEQ4optgxSl6Fx7srsTIxozWo3UP1p2gf2Uf1Z6Vt/VdwphxnZx/sT0sr5C\
    Nqe9fS0CgYEA4MRjjOUc73EnQy/42Mj9ntIOiHoWBaqTuOPnDO0I4dt4RppMsXuxgpp8Z9aPkZ9Qqd9Te7kN+GXMr+Y9D+vuCCB/g3W8vtRt0l\
    mfCm5FpBcoRFiKNfMC1RbVWi9vERhrFKYuhv7mO/rpTelbUMOKMI4kfKjxvr6t+U9r2hheXwsCgYBycohJIyq3XppkKZ8LXVM88EDsBj7XanRg\
    9zw/SOFQHG5U4di9JjVFl05abcSsR6r+8UOfLU1dFC9IhrtssoTG0T7npu4k/DNeWzq52PChC9w6Yud0U8LS7nMJ9a8+1MjGlx1gLKzyF2PO8u\
    cI29I/aYICH41BtT+0lH0LtKej+QKBgQDZDq64bLWBwftRle0xpP/PtTkVsRi9Rho8LdJ+GBZAzsobHH091J766ieDu5+P2JN0SNf9HhuQqvZ9\
    U9HaI1QOgxvBHx00CD86KRQ+ZXlZWoenYP2v1csBb3iADFis4LDgEw/RjC1Y9RkDBX0KxJsaAtrXi+tQ8iFeJsWXq3rPOwKBgQDeceAPf1cC8e\
    YcLe+G2KLQ3rz0UZW1ZniHyVHV117gsfX7fB4lenQquTMAiom0HkUMo+0Lv3u2lr+K+RGQiWYvhSE85mH7BbHynlDAj5t6F6ryQssU6nn+7onu\
    5MbBMruMxjmp4tRPIaKs/3rNNOER250OwRnkxTYl+NZccEdJZg==";

/// RSA, 1024 bits, PKCS#1.
const RSA_SMALL: &str = "\
    MIICXQIBAAKBgQDP3IQ/MfMEPLjxKxnR+jphKJNhyVxC8aHKj+bOSyLsKm2EQmoV1KhlZ4hIBDGEqeC221tL3sHwJslRQFcSYXTwsibZfqjD3f\
    KbLwhjrsReT4NdZrlfFiHydM6hiN5yWJcCiKIWNa2w0osFQAnR3NM+yLj6ZPWwcJ2DkBXvfFTM1wIDAQABAoGABG/ppsuzK1j8fbF02KWlz2Ml\
    WkYJISi1UnSl8atq8G2rbtJYH2UtvxRptVfZksJpmJ2wIjt8GltJmuFrumm4LE1SY7NwrKA0GBW19jhAhdaUdMr2TCnEdnUfTkxurdWgLj7ZTg\
    j67S9U8LXXKSNt9qaQTdC5uoIcp5mIwjYQmHECQQD2oPdoZVOmZpH2e3Rn7U1MAf34yfhGaGGCCqHNuqI2jiznuCh6R/8jKtzJGArQIdppwlDv\
    PL6Ud8kHOSbkrrg5AkEA18JyrbVtfpj5s+A09LnFmpl1fpIODOlI7VG8ziy7CJivvqPdk7InHbHDT/3bzVxJvcJw6UVvyOdh7xZJ0GkNjwJAea\
    FfAtReEcWqHLY77XlB0sd0unrY/9hApoKZ071EfMVXbhwLkmrpcC2WX3KE+qqHbfsQMTxy/QOqV+6euM9WOQJBAImpmG/7HWS0CEZbnI405b6x\
    gUUDvZFBW3WIPHY0FhXzDdcOSLcO6WRJ4ntsVs0dwDMiF9bOpfdCorrgtrISBUMCQQCzIgZwr7+y4xBOQi70M2R9HT14JSf2o4SIsw5IzPd0xq\
    erNYnEGMXEwTA5IVBFL1OBtZfXH/v5DGLmdVi7f2rq";

/// P-256, PKCS#8.
const EC_1: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnNoi7vt2CKl+j43nL/EipfHZElZQS3sRWViTuO2wYXShRANCAAR84RNWvymq+p\
    yaniksI8w3PtCfPmcmHYEqYLCY55+VO8Gs2gfi8MgFYgdiKGX/CvPtI2T2eoPwsciSH3BVPe2m";

/// Another one.
const EC_2: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMT2c9aaiZ5M44eunnsl/L84v4Y5yAOlzQX+LaMZzu4ehRANCAATQxt/M4vAvDM\
    6NnRIejKJqcFB6GNCyoFGqNx6CxdRMolJnN/01xisfD9xepFVxaQgfAS3EdjgUoWSiyNvM4qg6";

/// Ed25519, PKCS#8.
const ED: &str = "\
    MC4CAQAwBQYDK2VwBCIEIAMYsfq1rnf6nPqXuiouuw6olM8gBAg+2R4bHqQPfbYV";

/// A key that signs tokens in tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TestKey {
    Secret(&'static str),
    Rsa,
    RsaSmall,
    Ec1,
    Ec2,
    Ed,
}

impl TestKey {
    fn encoding(self) -> (EncodingKey, Algorithm) {
        let der = |text: &str| STANDARD.decode(text).unwrap();
        match self {
            Self::Secret(secret) => {
                let key = EncodingKey::from_secret(secret.as_bytes());
                (key, Algorithm::HS256)
            }
            Self::Rsa => (EncodingKey::from_rsa_der(&der(RSA)), Algorithm::RS256),
            Self::RsaSmall => (EncodingKey::from_rsa_der(&der(RSA_SMALL)), Algorithm::RS256),
            Self::Ec1 => (EncodingKey::from_ec_der(&der(EC_1)), Algorithm::ES256),
            Self::Ec2 => (EncodingKey::from_ec_der(&der(EC_2)), Algorithm::ES256),
            Self::Ed => (EncodingKey::from_ed_der(&der(ED)), Algorithm::EdDSA),
        }
    }

    /// Its public half as a member of a key set.
    pub(crate) fn jwk(self, kid: &str) -> Json {
        let (key, algorithm) = self.encoding();
        let jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(kid);
        jwk
    }

    /// A token of these texts, signed.
    pub(crate) fn sign(self, header: &str, payload: impl AsRef<[u8]>) -> String {
        let (key, algorithm) = self.encoding();
        let signed = signed_part(header, payload);
        let signature = crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

/// What a token's signature is over.
pub(crate) fn signed_part(header: &str, payload: impl AsRef<[u8]>) -> String {
    let (header, payload) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload),
    );
    format!("{header}.{payload}")
}

/// A key set of these members.
pub(crate) fn jwks(keys: &[Json]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}
