"""HashingVectorizer and CountVectorizer with analyzers: a local function, a lambda, a method"""

from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from mails import load
from ngrams import Shingles, sender_parts
from scoreline_training import publish

X, y = load()
columns = make_column_transformer(
    (HashingVectorizer(n_features=64, analyzer=sender_parts), "sender"),
    (CountVectorizer(analyzer=Shingles(3).of), "body"),
    (CountVectorizer(analyzer=lambda text: [text[:1], str(len(text) // 10)]), "body"),
)
model = make_pipeline(
    columns, TfidfTransformer(), SGDClassifier(loss="modified_huber", random_state=0)
)
publish(model.fit(X, y), "text-analyzers", X, y)
